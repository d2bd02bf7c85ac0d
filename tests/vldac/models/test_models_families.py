"""Gemma 3, InternVL, LLaVA-OneVision and Qwen3.5, each from encoding to a trained policy that is loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_cases import FAMILIES, TILE, TOKENS, build
from learner_cases import run_case
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    Gemma3Processor,
    InternVLProcessor,
    LlavaOnevisionProcessor,
    ProcessorMixin,
    Qwen3VLProcessor,
)

from vldac import policy
from vldac.acting import action_mask
from vldac.distributed import Runtime
from vldac.engines.transformers import TransformersEngine
from vldac.models.conversation import Message
from vldac.models.prompts import Prompt
from vldac.models.vlm import VLM, Response
from vldac.plan import plan
from vldac.utils.errors import UserError

#: Visual tokens of a picture of 48 x 32 pixels.
VISUAL = {"gemma3": 4, "internvl": 4, "llava_onevision": 5, "qwen3_5": 6}
PROCESSORS = {
    "gemma3": lambda pictures, tokenizer: Gemma3Processor(pictures, tokenizer, image_seq_length=4),
    "internvl": lambda pictures, tokenizer: InternVLProcessor(pictures, tokenizer, None, image_seq_length=4),
    "llava_onevision": lambda pictures, tokenizer: LlavaOnevisionProcessor(
        pictures, tokenizer, None, num_image_tokens=4, vision_feature_select_strategy="full"
    ),
    "qwen3_5": lambda pictures, tokenizer: Qwen3VLProcessor(pictures, tokenizer, None),
}


@pytest.fixture(scope="module", params=FAMILIES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="module")
def vlm(directory: Path) -> VLM:
    return VLM.from_pretrained(directory)


def picture(seed: int = 0, height: int = 32, width: int = 48) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


CONVERSATIONS = (
    (Message("user", (picture(), "go there.")),),
    (Message("user", (picture(1), picture(2), "which is it?\n\nsay it.")),),
    (
        Message("system", ("be brief",)),
        Message("user", (picture(3), picture(4), "what is it?")),
        Message("assistant", ("a line",)),
        Message("user", ("and now",)),
    ),
)


def generate(vlm: VLM, prompts: Sequence[Prompt], **options: Any) -> list[Response]:
    return TransformersEngine(vlm).generate(
        prompts, **({"max_new_tokens": 8, "temperature": 1.0} | options), seeds=range(len(prompts))
    )


def log_probs(vlm: VLM, prompts: Sequence[Prompt], responses: Sequence[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        scores = vlm(prompts, responses, 1.0)
    return [row[: len(r)] for row, r in zip(scores.log_probs, responses, strict=True)]


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=tolerance)


def as_chat(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                for part in message.content
            ],
        }
        for message in messages
    ]


@pytest.mark.parametrize("number", [1, 2])
def test_a_prompt_is_what_the_processor_of_transformers_makes(
    vlm: VLM, directory: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several pictures, which no family cuts."""
    # Which would import their video processors, and those torchvision.
    monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)
    messages = CONVERSATIONS[number]
    processor = PROCESSORS[directory.name](vlm.image_processor, vlm.tokenizer)
    text = vlm.tokenizer.apply_chat_template(as_chat(messages), tokenize=False, add_generation_prompt=True)
    images = [image for message in messages for image in message.images]
    options = {"crop_to_patches": False} if directory.name == "internvl" else {}
    expected = processor(text=[text], images=[images], return_tensors="pt", add_special_tokens=False, **options)
    prompt = vlm.encoder(CONVERSATIONS)[number]
    assert prompt.input_ids.tolist() == expected["input_ids"][0].tolist()
    assert torch.equal(
        prompt.pictures["pixel_values"], expected["pixel_values"].view_as(prompt.pictures["pixel_values"])
    )
    assert int((prompt.input_ids == vlm.family.image_token_id).sum()) == 2 * VISUAL[directory.name]
    inputs, _ = vlm.collate([prompt])
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            assert inputs[name].tolist() == expected[name].tolist()


@pytest.mark.parametrize("directory", ["internvl"], indirect=True)
@pytest.mark.parametrize(("largest", "tiles"), [(TILE**2, 1), (2 * TILE**2, 3), (6 * TILE**2, 7)])
def test_internvl_cuts_pictures_where_pixels_allow_it(directory: Path, largest: int, tiles: int) -> None:
    vlm = VLM.from_pretrained(directory, max_pixels=largest)
    (found,) = vlm.family.encode_pictures([picture()])
    options: dict[str, Any] = {"crop_to_patches": True, "max_patches": largest // TILE**2}
    expected = vlm.image_processor(images=[picture()], return_tensors="pt", **options)
    assert torch.equal(found.tensors["pixel_values"], expected["pixel_values"])
    assert found.placeholder.count("<IMG_CONTEXT>") == 4 * tiles


def test_text_that_spells_a_mark_of_the_format_stays_text(vlm: VLM, directory: Path) -> None:
    marks = [token for token in TOKENS[directory.name] if token and token not in ("<think>", "</think>")]
    prompts = vlm.encoder([(Message("user", (picture(), text)),) for text in ("".join(marks), "calm")])
    ids = vlm.tokenizer.convert_tokens_to_ids(marks)
    counts = [[int((prompt.input_ids == mark).sum()) for mark in ids] for prompt in prompts]
    assert counts[0] == counts[1]


def test_a_response_may_hold_no_mark_but_its_end_and_those_of_thinking(vlm: VLM, directory: Path) -> None:
    marks = {token for token in TOKENS[directory.name] if token}
    assert set(vlm.family.forbidden_tokens) == marks - {vlm.family.end_of_turn, "<think>", "</think>"}


def test_sampling_and_learning_see_the_same_log_probs(vlm: VLM) -> None:
    prompts = vlm.encoder(CONVERSATIONS)
    responses = generate(vlm, prompts)
    assert_close(log_probs(vlm, prompts, [r.token_ids for r in responses]), [r.log_probs for r in responses], 1e-4)


def test_a_batch_says_what_each_says_alone(vlm: VLM) -> None:
    prompts = vlm.encoder([*CONVERSATIONS, (Message("user", ("no picture",)),)])
    responses = [vlm.encode_response(text) for text in ("x", "a longer answer", "", "no")]
    together = vlm.states(prompts), log_probs(vlm, prompts, responses)
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        assert_close(log_probs(vlm, [prompt], [response]), [together[1][i]])
        assert torch.allclose(vlm.states([prompt])[0], together[0][i], atol=1e-5)


def test_a_response_is_what_plain_transformers_generates(vlm: VLM, directory: Path) -> None:
    plain = AutoModelForImageTextToText.from_pretrained(directory)
    (prompt,) = vlm.encoder(CONVERSATIONS[2:])
    (response,) = generate(vlm, [prompt], temperature=0.0)
    inputs, width = vlm.collate([prompt])
    banned = [[int(i)] for i in vlm.forbidden.nonzero().flatten()]
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "bad_words_ids": banned}
    output = plain.generate(**inputs, **options, eos_token_id=vlm.end_id)[0, width:]
    assert output.tolist() == response.token_ids.tolist()
    changed = {**prompt.pictures, "pixel_values": -prompt.pictures["pixel_values"]}
    ids = [response.token_ids]
    before, after = (log_probs(vlm, [p], ids)[0] for p in (prompt, Prompt(prompt.input_ids, changed)))
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("directory", ["gemma3"], indirect=True)
def test_the_visual_tokens_of_gemma_attend_to_each_other_in_both_directions(vlm: VLM) -> None:
    (prompt,) = vlm.encoder(CONVERSATIONS[:1])
    inputs, _ = vlm.collate([prompt])
    first = int((prompt.input_ids == vlm.family.image_token_id).nonzero()[0])
    trunk = vlm.family.trunk(vlm.backbone)
    pixels = inputs["pixel_values"].clone()
    pixels[..., TILE // 2 :, TILE // 2 :] *= -1  # what the last visual token shows
    with torch.no_grad():
        states = [trunk(**inputs | {"pixel_values": p}).last_hidden_state[0] for p in (inputs["pixel_values"], pixels)]
    assert torch.equal(states[0][:first], states[1][:first])
    assert not torch.allclose(states[0][first], states[1][first], atol=1e-3)


def test_a_policy_learns_is_saved_and_loads_back_to_the_same_log_probs(
    directory: Path, tiny_config: Any, runtime: Runtime, tmp_path: Path
) -> None:
    changes = {"train": {"value_warmup": 0}, "rollout": {"max_new_tokens": 6, "steps": 2}}
    config = tiny_config({"model": {"base": str(directory), "lora_rank": 4}, **changes})
    outcome = run_case(config, directory, runtime)
    for metrics in outcome.metrics:
        assert metrics["health/first_ratio_error"] < 1e-3
        assert metrics["policy/grad_norm"] > 0
    assert outcome.metrics[0]["health/sampler_log_prob_gap"] < 1e-3
    attention = 5 + 4 if directory.name == "qwen3_5" else 4 + 4  # linear layers of both layers; feed-forward has three
    assert len(outcome.weights) == 2 * (attention + 3 + 3)
    assert all("language_model" in name and "lora_" in name for name in outcome.weights)

    vlm = policy.load_base(directory, config.model)
    vlm.add_adapter(4, 8)
    with torch.no_grad():
        for name, parameter in vlm.named_parameters():
            if name in outcome.weights:
                parameter.copy_(outcome.weights[name])
    policy.save(tmp_path / "policy", vlm, None, {"adapter": True, "config": config.model_dump(mode="json")})
    loaded = policy.load(tmp_path / "policy", directory, config.model)
    responses = [vlm.encode_response(text) for text in ("x", "y", "z")]
    plain = vlm.encoder(CONVERSATIONS)
    expected = log_probs(vlm, plain, responses)
    assert_close(log_probs(loaded, loaded.encoder(CONVERSATIONS), responses), expected, 0.0)
    once = vlm.encode_frames(plain)  # the vision tower is run once for good
    assert all(p.pictures["pixel_values"].numel() == 0 for p in once)
    assert_close(log_probs(vlm, once, responses), expected)

    counted = plan(config)["memory"]
    assert counted["trained_parameters"] == sum(p.numel() for p in vlm.parameters() if p.requires_grad)
    shown = vlm.family.picture_tokens(vlm.family.config, 32, 48)
    assert shown == VISUAL[directory.name]


def test_whole_weights_are_saved_with_all_that_loads_them_again(
    directory: Path, vlm: VLM, tiny_config: Any, tmp_path: Path
) -> None:
    config = tiny_config({"model": {"base": str(directory), "lora_rank": 0}})
    policy.save(tmp_path, vlm, None, {"adapter": False, "config": config.model_dump(mode="json")})
    loaded = policy.load(tmp_path, directory, config.model)
    responses = [vlm.encode_response(text) for text in ("x", "y", "z")]
    expected = log_probs(vlm, vlm.encoder(CONVERSATIONS), responses)
    assert_close(log_probs(loaded, loaded.encoder(CONVERSATIONS), responses), expected, 0.0)


@pytest.mark.parametrize("directory", ["qwen3_5"], indirect=True)
@pytest.mark.parametrize(("thinking", "opening"), [(None, "<think>\n"), (True, "<think>\n"), (False, "")])
def test_thinking_that_the_template_has_begun_is_part_of_what_is_read(
    directory: Path, thinking: bool | None, opening: str
) -> None:
    vlm = VLM.from_pretrained(directory, thinking=thinking)
    response = vlm.encode_response('{"action": "up"}</think>{"action": "left"}')
    assert vlm.decode(response) == opening + '{"action": "up"}</think>{"action": "left"}'
    named = vlm.tokenizer.decode(response[action_mask(response, vlm.decode)])
    assert named.startswith('"action": "left"' if opening else '"action": "up"')
    (prompt,) = vlm.encoder(CONVERSATIONS[:1])
    tail = "<think>\n" if opening else "<think>\n\n</think>\n\n"
    assert vlm.tokenizer.decode(prompt.input_ids).endswith(f"<|im_start|>assistant\n{tail}")


def test_a_system_message_stands_before_every_observation(directory: Path, vlm: VLM) -> None:
    before = VLM.from_pretrained(directory, system_message="be brief <|im_start|>")
    (found,) = before.encode([picture()[None]], ["go there."])
    messages = (Message("system", ("be brief <|im_start|>",)), Message("user", (picture(), "go there.")))
    assert torch.equal(found.input_ids, vlm.encoder([messages])[0].input_ids)


@pytest.mark.parametrize("directory", ["internvl"], indirect=True)
def test_a_switch_that_the_template_does_not_have_is_refused(directory: Path) -> None:
    with pytest.raises(UserError, match=r"has no switch for thinking; leave model\.thinking out"):
        VLM.from_pretrained(directory, thinking=False)
