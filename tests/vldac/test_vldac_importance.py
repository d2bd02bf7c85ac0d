"""The weights of what another engine has sampled: by loops over numbers, and in an update of the learner."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_cases import make_learner, make_rollout, sampler, weights_of
from torch import Tensor

from vldac.config import Config
from vldac.distributed import Runtime
from vldac.health import HealthError
from vldac.importance import summary, truncated_weights
from vldac.rollout import Rollout

ALONE = Runtime(0, 1, torch.device("cpu"))
CAP = 1.1
EPISODES = torch.tensor([[3, 5], [3, 6], [4, 6]])


def rows() -> tuple[list[Tensor], list[Tensor]]:
    """Log-probabilities of six responses of 1 to 6 tokens, and of an engine that is a little off."""
    generator = torch.Generator().manual_seed(4)
    old = [torch.randn(length, generator=generator) - 2 for length in range(1, 7)]
    return old, [row + 0.3 * torch.randn(len(row), generator=generator) for row in old]


@pytest.mark.parametrize("level", ["token", "step", "episode"])
def test_weights_are_those_of_loops_over_numbers(level: Any) -> None:
    old, sampled = rows()
    found = truncated_weights(old, sampled, EPISODES, level, CAP)
    ratios = [
        [math.exp(o - s) for o, s in zip(a.tolist(), b.tolist(), strict=True)]
        for a, b in zip(old, sampled, strict=True)
    ]
    expected: list[Any] = [[min(ratio, CAP) for ratio in row] for row in ratios]
    if level == "step":
        expected = [min(math.prod(row), CAP) for row in ratios]
    if level == "episode":  # the numbers of its steps, in the order (t, n)
        for steps in ((0, 2), (4,), (1,), (3, 5)):
            for i in steps:
                expected[i] = min(math.prod(math.prod(ratios[j]) for j in steps), CAP)
    for weight, slow in zip(found, expected, strict=True):
        assert torch.allclose(weight, torch.tensor(slow), rtol=1e-5)
    flat = [number for row in expected for number in (row if isinstance(row, list) else [row])]
    assert CAP in flat
    assert min(flat) < 1
    metrics = summary(found, ALONE)
    assert metrics["importance/mean_weight"] == pytest.approx(sum(flat) / len(flat), rel=1e-5)
    assert metrics["importance/largest_weight"] == pytest.approx(CAP)
    squares = sum(number**2 for number in flat)
    assert metrics["importance/effective_sample_size"] == pytest.approx(sum(flat) ** 2 / len(flat) / squares, rel=1e-5)


def test_a_ratio_without_bound_has_the_weight_of_the_cap() -> None:
    found = truncated_weights(
        [torch.tensor([-1.0, -1.0])], [torch.tensor([-200.0, -1.0])], EPISODES[:1, :1], "step", CAP
    )
    assert found == [torch.tensor(CAP)]


@pytest.fixture(scope="module")
def config(tiny_config: Any) -> Config:
    """One batch, so that the gradient's norm is that of the loss at hand; no other term of it."""
    train = {"batch_size": 16, "micro_batch_size": 16, "epochs": 1, "kl_coefficient": 0.0, "value_warmup": 0}
    made: Config = tiny_config({"train": train})
    return made


def of_another_engine(rollout: Rollout, shift: float) -> Rollout:
    """The same rollout, as if sampled at log-probabilities that are off by `shift`, by turns either way."""
    steps = []
    for number, row in enumerate(rollout.steps):
        off = shift * (-1) ** number
        steps.append([replace(s, response=replace(s.response, log_probs=s.response.log_probs - off)) for s in row])
    return replace(rollout, steps=steps, exact=False, version=0)


def learned(
    config: Config, base: Path, rollout: Rollout, runtime: Runtime
) -> tuple[dict[str, Tensor], dict[str, float]]:
    learner = make_learner(config, base, runtime)
    metrics = learner.update(rollout, 0)
    return weights_of(learner), metrics


def test_an_update_weighs_the_tokens_of_another_engine(config: Config, tiny_base: Path, runtime: Runtime) -> None:
    rollout = make_rollout(config, sampler(tiny_base, config))
    shift = 0.3
    _, metrics = learned(config, tiny_base, of_another_engine(rollout, shift), runtime)
    lengths = [sum(len(step.response.token_ids) for step in row) for row in rollout.steps]
    high, low = sum(lengths[0::2]), sum(lengths[1::2])
    weights = [min(math.exp(shift), 2.0)] * high + [math.exp(-shift)] * low
    assert metrics["importance/mean_weight"] == pytest.approx(sum(weights) / len(weights), rel=1e-5)
    assert metrics["importance/largest_weight"] == pytest.approx(math.exp(shift), rel=1e-5)
    # Old log-probabilities are the learner's, so all ratios are 1 and the loss is the mean of -w A.
    plain = make_learner(config, tiny_base, runtime)
    old = plain.scorer.score(rollout, on_policy=False)
    advantages = plain.algorithm.targets(old.tensors, runtime.sum).advantages
    signs = [math.exp(shift * (-1) ** t) for t, row in enumerate(rollout.steps) for _ in row]
    expected = -sum(w * float(a) for w, a in zip(signs, advantages, strict=True)) / len(signs)
    assert metrics["loss/policy"] == pytest.approx(expected, abs=1e-5)
    assert abs(expected) > 1e-3  # where it would be 0 without weights: advantages are normalized


def test_without_a_cap_and_from_the_learners_own_engine_nothing_is_weighed(
    config: Config, tiny_base: Path, runtime: Runtime
) -> None:
    rollout = make_rollout(config, sampler(tiny_base, config))
    own, metrics = learned(config, tiny_base, rollout, runtime)
    assert not any(name.startswith("importance/") for name in metrics)
    never = config.model_copy(update={"train": config.train.model_copy(update={"importance_cap": None})})
    unweighed, _ = learned(never, tiny_base, of_another_engine(rollout, 0.3), runtime)
    weighed, _ = learned(config, tiny_base, of_another_engine(rollout, 0.3), runtime)
    assert all(torch.equal(own[name], unweighed[name]) for name in own)
    assert not all(torch.equal(own[name], weighed[name]) for name in own)


def test_an_engine_that_samples_at_another_temperature_is_refused(
    config: Config, tiny_base: Path, runtime: Runtime
) -> None:
    rollout = make_rollout(config, sampler(tiny_base, config))
    biased = replace(
        of_another_engine(rollout, 0.0), steps=[of_another_engine(rollout, 0.1).steps[0]] * len(rollout.steps)
    )
    with pytest.raises(HealthError, match="engine's log-probabilities"):
        learned(config, tiny_base, biased, runtime)
