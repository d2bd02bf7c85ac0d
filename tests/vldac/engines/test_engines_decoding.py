"""Decoding with transformers' cache, with the adapter merged, and up to the end of the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.gym_cards import NumberLine
from tests.vldac.models import smolvlm_cases
from vldac import parsing
from vldac.acting import Actor
from vldac.engines.decoding import cached_decoder
from vldac.engines.transformers import TransformersEngine
from vldac.models.cached_decoder import CachedDecoder
from vldac.models.vlm import VLM, Prompt, Response
from vldac.policy import load_base

TEXTS = ("go.", "where is the red box? go there now.", "left or right")


def moved_adapter(vlm: VLM) -> VLM:
    """The model with an adapter that is not the identity."""
    vlm.add_adapter(4, 8)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in vlm.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return vlm


@pytest.fixture
def smol(tmp_path: Path) -> VLM:
    return moved_adapter(VLM.from_pretrained(smolvlm_cases.build(tmp_path, TEXTS)))


def prompts_of(vlm: VLM) -> list[Prompt]:
    """Of several lengths."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8) for _ in TEXTS]
    return vlm.encode_frames(vlm.encode(frames, TEXTS))


def said(vlm: VLM, decoders: Any, **changes: Any) -> list[Response]:
    options: dict[str, Any] = {"max_new_tokens": 12, "temperature": 1.0, "seeds": range(len(TEXTS))} | changes
    return TransformersEngine(vlm, decoders=decoders).generate(prompts_of(vlm), **options)


def same(found: list[Response], expected: list[Response]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.token_ids.tolist() == b.token_ids.tolist()
        assert torch.allclose(a.log_probs, b.log_probs, atol=1e-5)


def test_the_cached_decoder_says_what_generate_says_and_knows_the_states(smol: VLM) -> None:
    found = said(smol, [cached_decoder])
    same(found, said(smol, ()))
    states = torch.stack([response.state for response in found if response.state is not None])
    assert torch.allclose(states, smol.states(prompts_of(smol)), atol=1e-4)


def test_rows_that_have_ended_leave_the_batch(smol: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    likely_end = torch.zeros(len(smol.forbidden)).index_fill_(0, torch.tensor([smol.end_id]), 7.0)
    score = VLM.token_log_probs
    monkeypatch.setattr(VLM, "token_log_probs", lambda vlm, logits, at: score(vlm, logits + likely_end, at))
    prompts = prompts_of(smol) * 4
    options: dict[str, Any] = {"max_new_tokens": 40, "temperature": 2.0, "seeds": range(12)}
    expected = TransformersEngine(smol, decoders=()).generate(prompts, **options)
    rows: list[int] = []
    step = CachedDecoder.step

    def counted(self: CachedDecoder, tokens: Tensor) -> Tensor:
        rows.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(CachedDecoder, "step", counted)
    same(TransformersEngine(smol, decoders=[cached_decoder]).generate(prompts, **options), expected)
    running = [sum(len(response.token_ids) > number + 1 for response in expected) for number in range(len(rows))]
    assert rows[0] == 12
    assert rows[-1] <= 6
    assert all(now <= left < 2 * now for now, left in zip(running, rows, strict=True))


def test_weights_come_back_bit_for_bit_from_having_the_adapter_merged(smol: VLM) -> None:
    before = {name: (p.data_ptr(), p.clone()) for name, p in smol.named_parameters()}
    trained = [name for name, p in smol.named_parameters() if p.requires_grad]
    (prompt, *_), response = prompts_of(smol), smol.encode_response("left")
    with torch.no_grad():
        plain = smol([prompt], [response], 1.0).log_probs
        with smol.adapter_merged():
            assert any(not torch.equal(p, before[name][1]) for name, p in smol.named_parameters())
            merged = smol([prompt], [response], 1.0).log_probs
        with smol.adapter_disabled():
            base = smol([prompt], [response], 1.0).log_probs
    assert torch.allclose(plain, merged, atol=1e-5)
    assert not torch.allclose(plain, base, atol=1e-2)
    for name, parameter in smol.named_parameters():
        assert parameter.data_ptr() == before[name][0], name
        assert torch.equal(parameter, before[name][1]), name
    assert [name for name, p in smol.named_parameters() if p.requires_grad] == trained


def test_bfloat16_is_not_merged_where_a_small_adapter_would_be_lost(smol: VLM) -> None:
    smol.bfloat16()
    layer = next(m for m in smol.backbone.modules() if hasattr(m, "get_delta_weight"))
    with torch.no_grad():
        layer.lora_B["default"].weight.mul_(1e-3)
    weight, delta = layer.base_layer.weight, layer.get_delta_weight("default")
    assert float(((weight + delta) == weight).float().mean()) > 0.5
    with smol.adapter_merged():
        assert layer.base_layer.weight is weight
        assert not layer.disable_adapters


def test_positions_that_a_family_counts_otherwise_are_found_out(
    smol: VLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(smol.family), "positions", lambda self, model, prompts, inputs: inputs["attention_mask"])
    engine = TransformersEngine(smol, decoders=[cached_decoder])
    found = engine.generate(prompts_of(smol), max_new_tokens=12, temperature=1.0, seeds=range(3))
    same(found, said(smol, ()))
    assert engine.decoders == []
    assert "off by" in caplog.text


# Up to the end of the answer


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ('{"thoughts": "a } b", "action": "left"}', True),
        (' \n{"action": 3}, and more', True),
        ('{"thoughts": "a } b", "action": "left"', False),
        ('{"thoughts": "no action"}', False),  # a later object may be the answer
        ('I say {"action": "left"}', False),  # the last answer of such a text is read
        ('{"other": {"action": "left"}', False),
        ("}", False),
        ("", False),
    ],
)
def test_an_answer_is_settled_once_nothing_can_change_it(text: str, settled: bool) -> None:
    assert parsing.is_settled(text) == settled
    more = [text + tail for tail in ("", "}", ' {"action": "other"}', '"} {"action": "x"}', ', "action": "y"}')]
    if settled:
        assert len({parsing.parse_response(each) for each in more}) == 1
    elif text:
        assert len({parsing.parse_response(each) for each in more}) > 1


@pytest.mark.parametrize("decoders", [None, [cached_decoder], ()], ids=["of the family", "cached", "generate"])
def test_a_response_ends_with_the_token_that_closes_its_answer(
    tiny_base: Path, tiny_config: Any, decoders: Any
) -> None:
    vlm = load_base(tiny_base, tiny_config().model)
    engine = TransformersEngine(vlm) if decoders is None else TransformersEngine(vlm, decoders=decoders)
    game = NumberLine(width=32, height=32, prompt_style="terse")
    shown = [game.reset(seed=seed)[0] for seed in range(12)]
    whole = Actor(vlm, max_new_tokens=24, temperature=0.7, engine=engine)
    short = Actor(vlm, max_new_tokens=24, temperature=0.7, engine=engine, stop_at_answer=True)
    stopped = 0
    for full, cut in zip(whole.act(shown, range(12)), short.act(shown, range(12)), strict=True):
        count = len(cut.response.token_ids)
        assert cut.response.token_ids.tolist() == full.response.token_ids[:count].tolist()
        assert torch.allclose(cut.response.log_probs, full.response.log_probs[:count], atol=1e-5)
        assert cut.parsed == full.parsed
        assert cut.truncated == (full.truncated and cut.parsed is None)
        if count < len(full.response.token_ids):
            stopped += 1
            assert parsing.is_settled(cut.text)
            assert not parsing.is_settled(vlm.decode(cut.response.token_ids[:-1]))
            with torch.no_grad():  # and is learned from as what it is
                scores = vlm([cut.prompt], [cut.response.token_ids], 0.7)
            assert torch.allclose(scores.log_probs[0], cut.response.log_probs, atol=1e-4)
    assert stopped > 3
