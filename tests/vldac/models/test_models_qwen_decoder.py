"""The lean decoder of the Qwen-VL families says what transformers says, or leaves the work to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smolvlm_cases
import torch
from torch import Tensor, nn

from vldac.config import TinyConfig
from vldac.distributed import Runtime
from vldac.engines.decoding import cached_decoder, family_decoder
from vldac.engines.transformers import TransformersEngine
from vldac.models import qwen_decoder, tiny
from vldac.models.adapter import NoDecoderError
from vldac.models.conversation import Message
from vldac.models.vlm import VLM, Prompt, Response

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TEXTS = ["go.", "move the number to the target. actions: -, +.", "a much longer prompt. " * 4]
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "intermediate_size": 64,
    "vision_depth": 2,
    "vision_width": 32,
    "vocabulary": 330,
}


@pytest.fixture(params=FAMILIES)
def vlm(request: pytest.FixtureRequest, tmp_path: Path) -> VLM:
    """A random model of each family."""
    return build(request.param, tmp_path)


@pytest.fixture
def qwen2(tmp_path: Path) -> VLM:
    """A random model of the default family."""
    return build("qwen2_vl", tmp_path)


def build(family: str, directory: Path, **shape: Any) -> VLM:
    config = TinyConfig(family=family, **(SHAPE | shape))  # type: ignore[arg-type]
    tiny.build(config, [*TEXTS, "user\n", "assistant\n"] * 5, 0, directory)
    vlm = VLM.from_pretrained(directory)
    with torch.no_grad():  # as they are in released models: neither zero nor one
        for name, parameter in vlm.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.2)
    return vlm


def frames(count: int, seed: int, height: int = 32, width: int = 48) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def mixed_prompts(vlm: VLM) -> list[Prompt]:
    """Prompts that differ in text, in length, in how many pictures they hold, none included, and in their grids."""
    windows = [frames(1, 1), frames(2, 2), frames(3, 3, 48, 32), frames(1, 4, 64, 32)]
    prompts = vlm.encode(windows, [*TEXTS, "go."])
    return [*prompts, *vlm.encoder([[Message("user", ("no picture at all",))]])]


def alike_prompts(vlm: VLM) -> list[Prompt]:
    """Prompts of one length: none is padded."""
    return vlm.encode([frames(1, seed) for seed in range(3)], ["go."] * 3)


def train_a_little(vlm: VLM, seed: int) -> None:
    """Changes the adapter in place, as an optimizer does."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in vlm.named_parameters():
        if "lora_" in name:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.3)


def both(engine: TransformersEngine, prompts: list[Prompt], seed: int, **changes: Any) -> list[Response]:
    """Responses of the decoder, after a comparison with those of transformers."""
    options: dict[str, Any] = {"max_new_tokens": 8, "temperature": 1.0, "seeds": range(seed, seed + len(prompts))}
    options |= changes
    found = engine.generate(prompts, **options)
    assert engine.decoders[0] is family_decoder
    assert engine.proven
    expected = TransformersEngine(engine.vlm, decoders=()).generate(prompts, **options)
    states = engine.vlm.states(prompts)
    for response, other, state in zip(found, expected, states, strict=True):
        assert response.token_ids.tolist() == other.token_ids.tolist()
        assert torch.allclose(response.log_probs, other.log_probs, atol=5e-5)
        assert response.state is not None
        assert other.state is None
        assert torch.allclose(response.state, state, atol=1e-4)
    return found


def test_it_says_what_transformers_says_whatever_the_batch(vlm: VLM) -> None:
    engine = TransformersEngine(vlm)
    for seed in range(3):
        for prompts in (mixed_prompts(vlm), alike_prompts(vlm), mixed_prompts(vlm)[1:2], mixed_prompts(vlm)[4:]):
            both(engine, prompts, seed)
    both(engine, mixed_prompts(vlm), 0, temperature=0.0, seeds=None)
    both(engine, mixed_prompts(vlm), 0, temperature=0.3, max_new_tokens=1)


def test_it_follows_the_weights_as_they_are_trained(vlm: VLM) -> None:
    vlm.add_adapter(4, 8)
    engine, said = TransformersEngine(vlm), set()
    for version in range(3):
        engine.update_weights(version)
        before = {name: parameter.clone() for name, parameter in vlm.named_parameters()}
        responses = both(engine, vlm.encode_frames(mixed_prompts(vlm)[:4]), 0)
        responses += both(engine, mixed_prompts(vlm), 0)
        said.add(tuple(tuple(response.token_ids.tolist()) for response in responses))
        with vlm.adapter_disabled():
            both(engine, alike_prompts(vlm), 0)
        for name, parameter in vlm.named_parameters():  # nothing was merged into them
            assert torch.equal(parameter, before[name]), name
        train_a_little(vlm, version)
    assert len(said) == 3


def test_whole_weights_that_are_trained_are_followed_too(qwen2: VLM) -> None:
    engine = TransformersEngine(qwen2)
    first = both(engine, alike_prompts(qwen2), 0)
    for parameter in qwen2.parameters():
        parameter.data.mul_(1.1)
    second = both(engine, alike_prompts(qwen2), 0)
    assert [r.token_ids.tolist() for r in first] != [r.token_ids.tolist() for r in second]


def test_a_response_does_not_depend_on_the_rest_of_its_batch(qwen2: VLM) -> None:
    engine, prompts = TransformersEngine(qwen2), mixed_prompts(qwen2)
    together = both(engine, prompts, 0)
    for seed, (prompt, response) in enumerate(zip(prompts, together, strict=True)):
        (alone,) = both(engine, [prompt], seed)
        assert alone.token_ids.tolist() == response.token_ids.tolist()


def favor(monkeypatch: pytest.MonkeyPatch, token: int, strength: float) -> None:
    """Makes one token likelier everywhere."""
    original = VLM.token_log_probs

    def biased(self: VLM, logits: Tensor, temperature: float) -> Tensor:
        return original(
            self, logits + strength * nn.functional.one_hot(torch.tensor(token), logits.shape[-1]), temperature
        )

    monkeypatch.setattr(VLM, "token_log_probs", biased)


def test_responses_that_have_ended_leave_the_batch(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    favor(monkeypatch, vlm.end_id, 4.0)
    batches, original = list[int](), qwen_decoder.QwenDecoder.step

    def step(self: qwen_decoder.QwenDecoder, tokens: Tensor) -> Tensor:
        batches.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(qwen_decoder.QwenDecoder, "step", step)
    prompts = mixed_prompts(vlm) * 4
    responses = both(TransformersEngine(vlm), prompts, 0, max_new_tokens=24)
    lengths = [len(response.token_ids) for response in responses]
    assert len(set(lengths)) > 3
    assert batches == sorted(batches, reverse=True)
    assert len(set(batches)) > 2
    for number, batch in enumerate(batches, 1):
        assert batch < 2 * sum(length > number for length in lengths) <= 2 * batch
    for response in responses:
        ids = response.token_ids.tolist()
        assert vlm.end_id not in ids[:-1]
        assert ids[-1] == vlm.end_id or len(ids) == 24


def test_a_response_may_be_nothing_but_its_end_or_never_end(qwen2: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    favor(monkeypatch, qwen2.end_id, 60.0)
    responses = both(TransformersEngine(qwen2), mixed_prompts(qwen2), 0)
    assert [response.token_ids.tolist() for response in responses] == [[qwen2.end_id]] * 5
    favor(monkeypatch, qwen2.end_id, -120.0)
    responses = both(TransformersEngine(qwen2), mixed_prompts(qwen2), 0)
    assert all(len(r.token_ids) == 8 and qwen2.end_id not in r.token_ids for r in responses)


def test_forbidden_tokens_are_never_drawn_however_hot(qwen2: VLM) -> None:
    responses = TransformersEngine(qwen2).generate(
        alike_prompts(qwen2) * 20, max_new_tokens=40, temperature=10.0, seeds=range(60)
    )
    drawn = torch.cat([response.token_ids for response in responses])
    assert len(drawn) > 1500
    assert not qwen2.forbidden[drawn].any()


def test_nothing_is_kept_from_one_batch_to_the_next(qwen2: VLM) -> None:
    engine = TransformersEngine(qwen2)
    engine.generate(alike_prompts(qwen2), max_new_tokens=2, temperature=1.0, seeds=range(3))
    assert vars(engine) == {"vlm": qwen2, "decoders": [family_decoder, cached_decoder], "proven": True}


def remade(change: Callable[[Any], object]) -> Callable[[VLM], object]:
    """A change of the language model."""
    return lambda vlm: change(vlm.backbone.model.language_model)


class Louder(nn.Linear):
    """A linear layer that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def louder(model: Any) -> None:
    down = model.layers[0].mlp.down_proj
    model.layers[0].mlp.down_proj = Louder(down.in_features, down.out_features, bias=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda vlm: vlm.bfloat16(), "bfloat16"),
        (remade(lambda model: model.layers[1].mlp.register_forward_hook(lambda *_: None)), "a Qwen2MLP has hooks"),
        (remade(lambda model: model.norm.register_forward_pre_hook(lambda *_: None)), "a Qwen2VLRMSNorm has hooks"),
        (remade(lambda model: setattr(model.norm, "forward", lambda x: x)), "a Qwen2VLRMSNorm has hooks"),
        (remade(louder), "holds a Louder"),
        (remade(lambda model: setattr(model.layers[0].mlp, "act_fn", nn.GELU())), "holds a GELU"),
        (remade(lambda model: model.config.layer_types.__setitem__(0, "sliding_attention")), "sliding window"),
        (remade(lambda model: model.config.rope_parameters.update(rope_type="yarn")), "of type yarn"),
        (remade(lambda model: setattr(model.layers[0].mlp.down_proj, "bias", nn.Parameter(torch.ones(32)))), "a bias"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_it_leaves_what_it_does_not_know_to_transformers(
    qwen2: VLM, change: Callable[[VLM], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(qwen2)
    prompts = alike_prompts(qwen2)
    with pytest.raises(NoDecoderError, match=reason):
        qwen2.family.decoder(qwen2.backbone, prompts, qwen2.collate(prompts)[0], 4)
    if "type" in reason or "sliding" in reason:
        return  # not a whole change of the model: transformers would not run either
    caplog.set_level("INFO", logger="vldac")
    engine = TransformersEngine(qwen2)
    found = [engine.generate(prompts, max_new_tokens=4, temperature=1.0, seeds=range(3)) for _ in range(2)]
    expected = TransformersEngine(qwen2, decoders=()).generate(
        prompts, max_new_tokens=4, temperature=1.0, seeds=range(3)
    )
    for responses in found:
        assert [r.token_ids.tolist() for r in responses] == [r.token_ids.tolist() for r in expected]
    (line,) = caplog.messages
    assert reason in line


def test_adapters_other_than_plain_lora_are_left_to_transformers(qwen2: VLM) -> None:
    qwen2.add_adapter(4, 8)
    qwen2.model.merge_adapter()
    prompts = alike_prompts(qwen2)
    with pytest.raises(NoDecoderError, match="no plain LoRA"):
        qwen2.family.decoder(qwen2.backbone, prompts, qwen2.collate(prompts)[0], 4)


def test_weights_that_are_sharded_over_ranks_are_left_to_transformers(qwen2: VLM, runtime: Runtime) -> None:
    prompts = alike_prompts(qwen2)
    options: dict[str, Any] = {"max_new_tokens": 4, "temperature": 1.0, "seeds": range(3)}
    with_decoder = TransformersEngine(qwen2).generate(prompts, **options)
    qwen2.lockstep = True
    found = TransformersEngine(qwen2).generate(prompts, **options)
    assert [r.token_ids.tolist() for r in found] == [r.token_ids.tolist() for r in with_decoder]
    assert all(response.state is None for response in found)


def test_large_models_are_left_to_transformers(qwen2: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qwen_decoder, "_MOST_WEIGHTS", 1000)
    prompts = alike_prompts(qwen2)
    with pytest.raises(NoDecoderError, match="too large"):
        qwen2.family.decoder(qwen2.backbone, prompts, qwen2.collate(prompts)[0], 4)


def test_families_without_a_decoder_are_left_to_transformers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vlm = VLM.from_pretrained(smolvlm_cases.build(tmp_path, TEXTS))
    caplog.set_level("INFO", logger="vldac")
    engine = TransformersEngine(vlm)
    for _ in range(2):
        responses = engine.generate(alike_prompts(vlm), max_new_tokens=4, temperature=1.0, seeds=range(3))
        assert all(1 <= len(response.token_ids) <= 4 for response in responses)
    assert caplog.messages == ["generating with transformers: the family has none"]


def test_a_decoder_that_is_wrong_is_found_out_by_its_first_batch(
    qwen2: VLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = qwen_decoder.QwenDecoder.step
    monkeypatch.setattr(qwen_decoder.QwenDecoder, "step", lambda self, tokens: original(self, tokens) * 1.001)
    engine = TransformersEngine(qwen2)
    options: dict[str, Any] = {"max_new_tokens": 4, "temperature": 0.5, "seeds": range(3)}
    prompts = alike_prompts(qwen2)
    responses = engine.generate(prompts, **options)
    expected = TransformersEngine(qwen2, decoders=()).generate(prompts, **options)
    assert [r.token_ids.tolist() for r in responses] == [r.token_ids.tolist() for r in expected]
    assert all(torch.allclose(a.log_probs, b.log_probs, atol=1e-5) for a, b in zip(responses, expected, strict=True))
    assert engine.decoders == [cached_decoder]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "off by" in record.getMessage()
