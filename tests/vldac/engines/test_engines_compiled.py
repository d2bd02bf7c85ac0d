"""Decoding with a cache of fixed size, by a graph that is compiled once for each size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from tests.vldac.engines.test_engines_decoding import TEXTS, moved_adapter, prompts_of, same
from tests.vldac.models import smolvlm_cases
from vldac import engines
from vldac.config import ConfigError, TinyConfig, parse
from vldac.engines.decoding import cached_decoder
from vldac.engines.registry import EngineOptionsError
from vldac.engines.transformers import TransformersEngine, TransformersOptions
from vldac.models import tiny
from vldac.models.adapter import NoDecoderError
from vldac.models.static_decoder import StaticDecoder
from vldac.models.vlm import VLM, Response

SHAPE = {"hidden_size": 32, "heads": 4, "kv_heads": 2, "intermediate_size": 64, "vision_width": 32, "vocabulary": 330}


@pytest.fixture(autouse=True)
def _compiled_here() -> Iterator[None]:
    """Nothing that another test has compiled."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def build(family: str, directory: Path) -> VLM:
    if family == "smolvlm":
        return moved_adapter(VLM.from_pretrained(smolvlm_cases.build(directory, TEXTS)))
    shape = TinyConfig(family=family, layers=1, vision_depth=1, **SHAPE)  # type: ignore[arg-type]
    tiny.build(shape, [*TEXTS, "user\n", "assistant\n"] * 5, 0, directory)
    return moved_adapter(VLM.from_pretrained(directory))


def compiled(vlm: VLM) -> TransformersEngine:
    engine = engines.make("transformers", vlm, {"compiled": True})
    assert isinstance(engine, TransformersEngine)
    assert len(engine.decoders) == 3
    return engine


def said(engine: TransformersEngine, rows: int = 3, tokens: int = 12, **changes: Any) -> list[Response]:
    options: dict[str, Any] = {"max_new_tokens": tokens, "temperature": 1.0, "seeds": range(rows)} | changes
    return engine.generate((prompts_of(engine.vlm) * 2)[:rows], **options)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["smolvlm", "qwen2_vl"])
def test_a_compiled_step_says_what_transformers_says_with_the_weights_of_the_moment(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = build(family, tmp_path)
    engine, plain = compiled(vlm), TransformersEngine(vlm, decoders=[cached_decoder])
    steps: list[int] = []
    step = StaticDecoder.step

    def counted(self: StaticDecoder, tokens: torch.Tensor) -> torch.Tensor:
        steps.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(StaticDecoder, "step", counted)
    found = said(engine)
    same(found, said(plain))
    assert len(engine.decoders) == 3  # none has been given up
    states = torch.stack([response.state for response in found if response.state is not None])
    assert torch.allclose(states, vlm.states(prompts_of(vlm)), atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    # As an update does: in place.
    with torch.no_grad():
        for name, parameter in vlm.named_parameters():
            if "lora_B" in name:
                parameter.mul_(-3)
    moved = said(engine)
    assert [r.token_ids.tolist() for r in moved] != [r.token_ids.tolist() for r in found]
    same(moved, said(plain))
    # Prompts and responses of other lengths fit into the same cache; rows that have ended leave the answer.
    likely_end = torch.zeros(len(vlm.forbidden)).index_fill_(0, torch.tensor([vlm.end_id]), 9.0)
    score = VLM.token_log_probs
    monkeypatch.setattr(VLM, "token_log_probs", lambda vlm, logits, at: score(vlm, logits + likely_end, at))
    steps.clear()
    same(said(engine, tokens=20, temperature=2.0), said(plain, tokens=20, temperature=2.0))
    assert steps[0] == 3
    assert steps[-1] < 3
    assert counters["stats"]["unique_graphs"] == 1
    # Another size of the batch is another graph.
    same(said(engine, rows=5), said(plain, rows=5))
    assert counters["stats"]["unique_graphs"] == 2


def test_without_a_compiler_it_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vlm = build("smolvlm", tmp_path)
    engine = compiled(vlm)
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/g++",))
    found = said(engine)
    assert "generating without a compiled graph, because none can be made here: " in caplog.text
    assert len(engine.decoders) == 1  # the family has none
    same(found, said(TransformersEngine(vlm, decoders=[cached_decoder])))


def test_weights_in_shards_are_not_compiled(tmp_path: Path) -> None:
    vlm = build("smolvlm", tmp_path)
    vlm.lockstep = vlm.gathered = True
    with pytest.raises(NoDecoderError, match="weights that several ranks share"):
        compiled(vlm).decoders[0](vlm, [], {}, 1)


def test_it_is_asked_for_by_an_option() -> None:
    assert not TransformersOptions().compiled
    run = parse({"rollout": {"engine_options": {"compiled": True}}})
    assert run.fingerprint() == parse({}).fingerprint()  # it changes rounding and nothing else
    with pytest.raises((ConfigError, EngineOptionsError), match="compile"):
        parse({"rollout": {"engine_options": {"compile": True}}})
