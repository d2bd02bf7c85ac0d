"""Honest noise passes, planted faults do not: the sampler's log-probabilities against the learner's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from envs.gym_cards import NumberLine
from vldac import policy
from vldac.distributed import Runtime
from vldac.engines.transformers import TransformersEngine
from vldac.health import HealthError, compare, require
from vldac.models.vlm import VLM, Prompt

ALONE = Runtime(0, 1, torch.device("cpu"))
COUNT = 64


class Sampled:
    """Responses to prompts of several lengths, with the log-probabilities that they were drawn at."""

    def __init__(self, base: Path, config: Any) -> None:
        self.vlm: VLM = policy.load_base(base, config.model)
        self.dtype = config.model.dtype
        game = NumberLine(width=32, height=32, prompt_style="terse")
        shown = [game.reset(seed=seed)[0] for seed in range(COUNT)]
        texts = [o["prompt"] + " now." * (i % 3) for i, o in enumerate(shown)]
        self.prompts = self.vlm.encode([o["frames"] for o in shown], texts)
        engine = TransformersEngine(self.vlm)
        responses = engine.generate(self.prompts, max_new_tokens=24, temperature=1.0, seeds=range(COUNT))
        self.ids = [response.token_ids for response in responses]
        self.log_probs = [response.log_probs for response in responses]

    def require(
        self, *, prompts: list[Prompt] | None = None, ids: list[Tensor] | None = None, temperature: float = 1.0
    ) -> None:
        """Scores in another batching than that of the sampling, as a learner does, and compares."""
        prompts, ids = prompts or self.prompts, ids or self.ids
        scored: list[Tensor] = []
        for start in range(0, COUNT, 24):
            part = slice(start, start + 24)
            with torch.no_grad():
                rows = self.vlm(prompts[part], ids[part], temperature).log_probs
            scored += [row[: len(each)] for row, each in zip(rows, ids[part], strict=True)]
        require(compare(scored, self.log_probs, ALONE), self.dtype, "both")


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def sampled(request: pytest.FixtureRequest, tiny_base: Path, tiny_config: Any) -> Sampled:
    return Sampled(tiny_base, tiny_config({"model": {"dtype": request.param}}))


def test_honest_noise_passes(sampled: Sampled) -> None:
    sampled.require()


def test_a_wrong_temperature_is_noticed(sampled: Sampled) -> None:
    with pytest.raises(HealthError, match="both do not come from the same weights, temperature and tokens"):
        sampled.require(temperature=1.2)


def test_one_response_that_is_shifted_by_a_token_is_noticed(sampled: Sampled) -> None:
    shifted = torch.cat([sampled.ids[5][1:], sampled.ids[5][:1]])
    with pytest.raises(HealthError, match="over a response"):
        sampled.require(ids=[*sampled.ids[:5], shifted, *sampled.ids[6:]])


def test_one_prompt_whose_padding_is_read_is_noticed(sampled: Sampled) -> None:
    if sampled.dtype == "bfloat16":
        pytest.skip("so small a model makes less of eight padding tokens than bfloat16 rounds")
    ids = sampled.prompts[0].input_ids
    padded = replace(sampled.prompts[0], input_ids=torch.cat([torch.full((8,), sampled.vlm.pad_id), ids]))
    with pytest.raises(HealthError, match="over a response"):
        sampled.require(prompts=[padded, *sampled.prompts[1:]])


def test_differences_are_measured_over_tokens_and_over_responses() -> None:
    old = [torch.tensor([-1.0, -2.0]), torch.tensor([-0.5, -0.5, -0.5, -0.5])]
    new = [torch.tensor([-1.1, -1.9]), torch.tensor([-0.5, -0.1, -0.5, -0.5])]
    found = compare(new, old, ALONE)
    assert found.bias == pytest.approx((-0.1 + 0.1 + 0.4) / 6)
    assert found.response == pytest.approx(0.1)
    assert found.largest == pytest.approx(0.4)


def test_a_number_that_is_none_is_noticed() -> None:
    with pytest.raises(HealthError, match="nan"):
        require(compare([torch.tensor([float("nan")])], [torch.zeros(1)], ALONE), "bfloat16", "both")
