from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from vldac import parsing
from vldac.config import TinyConfig
from vldac.engines.transformers import TransformersEngine
from vldac.models import tiny
from vldac.models.registry import UnsupportedFamilyError
from vldac.models.vlm import VLM, Prompt, Response
from vldac.parsing import ParsedResponse
from vldac.utils.seeding import derive_seed

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TEXTS = ["go.", "number line. move current to target. actions: -, +.", "a much longer prompt. " * 4]
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "intermediate_size": 64,
    "vision_depth": 2,
    "vision_width": 32,
    "vocabulary": 330,  # padded to 384 rows: 54 that stand for nothing
}


@pytest.fixture(scope="session", params=FAMILIES)
def any_vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VLM:
    """A random model of each family."""
    return build(request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VLM:
    """A random model of the default family."""
    return build("qwen2_vl", tmp_path_factory)


def build(family: str, tmp_path_factory: pytest.TempPathFactory) -> VLM:
    corpus = [
        *TEXTS,
        parsing.render_response(ParsedResponse("the red box is to the left", "turn left")),
        "user\n",
        "assistant\n",
    ]
    directory = tmp_path_factory.mktemp(family)
    tiny.build(TinyConfig(family=family, **SHAPE), corpus * 5, 0, directory)  # type: ignore[arg-type]
    return VLM.from_pretrained(directory)


def frames(count: int = 1, *, seed: int = 0, height: int = 32, width: int = 48) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def mixed_prompts(vlm: VLM) -> list[Prompt]:
    """Prompts that differ in text, in length, in how many images they hold and in the images' sizes."""
    windows = [frames(1, seed=1), frames(2, seed=2), frames(3, seed=3, height=48, width=32)]
    prompts = vlm.encode(windows, TEXTS)
    assert len({len(p.input_ids) for p in prompts}) == 3
    return prompts


def generate(vlm: VLM, prompts: list[Prompt], **options: Any) -> list[Response]:
    seed = options.pop("seed", 0)
    seeds = [derive_seed(seed, row) for row in range(len(prompts))]
    return TransformersEngine(vlm).generate(
        prompts, **({"max_new_tokens": 6, "temperature": 1.0} | options), seeds=seeds
    )


def learner_log_probs(vlm: VLM, prompts: list[Prompt], responses: list[Tensor], temperature: float) -> list[Tensor]:
    with torch.no_grad():
        scores = vlm(prompts, responses, temperature)
    assert scores.mask.sum(1).tolist() == [len(r) for r in responses]
    return [row[: len(r)] for row, r in zip(scores.log_probs, responses, strict=True)]


def assert_close(a: list[Tensor], b: list[Tensor]) -> None:
    for x, y in zip(a, b, strict=True):
        assert torch.allclose(x, y, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
def test_sampling_and_learning_see_the_same_log_probs(any_vlm: VLM, temperature: float) -> None:
    prompts = mixed_prompts(any_vlm)
    responses = generate(any_vlm, prompts, temperature=temperature)
    ids = [r.token_ids for r in responses]
    assert_close(learner_log_probs(any_vlm, prompts, ids, temperature), [r.log_probs for r in responses])
    other = learner_log_probs(any_vlm, prompts, ids, 1.7)
    assert not torch.allclose(other[0], responses[0].log_probs, atol=1e-3)  # so the temperature is in both


def test_padding_changes_neither_log_probs_nor_states(any_vlm: VLM) -> None:
    prompts = mixed_prompts(any_vlm)
    responses = [any_vlm.encode_response(text) for text in ("x", "a longer answer", "")]
    with torch.no_grad():
        together = any_vlm(prompts, responses, 1.0, entropies=True)
        alone = [any_vlm([p], [r], 1.0, entropies=True) for p, r in zip(prompts, responses, strict=True)]
    for i, (one, response) in enumerate(zip(alone, responses, strict=True)):
        assert torch.allclose(together.log_probs[i, : len(response)], one.log_probs[0], atol=1e-5)
        assert torch.allclose(together.entropies[i, : len(response)], one.entropies[0], atol=1e-5)
        assert torch.allclose(together.states[i, 0], one.states[0, 0], atol=1e-5)
        assert not together.log_probs[i, len(response) :].any()
        assert not together.entropies[i, len(response) :].any()


def test_the_state_is_that_of_the_last_prompt_token_whatever_is_answered(vlm: VLM) -> None:
    prompts = mixed_prompts(vlm)
    with torch.no_grad():
        scored = [vlm(prompts, [vlm.encode_response(text)] * 3, 1.0).states[:, 0] for text in ("a", "something else")]
    assert torch.allclose(scored[0], scored[1], atol=1e-5)
    assert torch.allclose(vlm.states(prompts), scored[0], atol=1e-5)


def test_log_probs_equal_a_plain_loop_over_single_tokens(vlm: VLM) -> None:
    (prompt,) = vlm.encode([frames()], ["go."])
    response = vlm.encode_response("left")
    (fast,) = learner_log_probs(vlm, [prompt], [response], 0.7)
    ids = prompt.input_ids
    for position, token in enumerate(response.tolist()):
        with torch.no_grad():
            logits = vlm.backbone(
                input_ids=ids[None],
                mm_token_type_ids=(ids[None] == vlm.family.image_token_id).int(),
                pixel_values=prompt.pictures["pixel_values"],
                image_grid_thw=prompt.pictures["image_grid_thw"],
            ).logits[0, -1]
        allowed = [i for i in range(len(logits)) if not vlm.forbidden[i]]
        weights = {i: float(logits[i].double() / 0.7) for i in allowed}
        slow = weights[token] - float(torch.logsumexp(torch.tensor(list(weights.values()), dtype=torch.float64), 0))
        assert float(fast[position]) == pytest.approx(slow, abs=1e-5)
        ids = torch.cat([ids, torch.tensor([token])])


def force(vlm: VLM, monkeypatch: pytest.MonkeyPatch, token: int, strength: float) -> None:
    """Makes one token likelier (or never drawn) everywhere, for sampling and learning alike."""
    original = VLM.token_log_probs

    def biased(self: VLM, logits: Tensor, temperature: float) -> Tensor:
        bias = torch.zeros(logits.shape[-1])
        bias[token] = strength
        return original(self, logits + bias, temperature)

    monkeypatch.setattr(VLM, "token_log_probs", biased)


def test_a_response_of_the_end_token_alone_is_one_token_with_its_log_prob(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(vlm, monkeypatch, vlm.end_id, 50.0)
    prompts = mixed_prompts(vlm)
    responses = generate(vlm, prompts)
    assert [r.token_ids.tolist() for r in responses] == [[vlm.end_id]] * 3
    assert_close(
        learner_log_probs(vlm, prompts, [r.token_ids for r in responses], 1.0), [r.log_probs for r in responses]
    )


def test_a_truncated_response_has_no_end_token_and_all_its_log_probs(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    force(vlm, monkeypatch, vlm.end_id, -50.0)
    prompts = mixed_prompts(vlm)
    responses = generate(vlm, prompts, max_new_tokens=5)
    for response in responses:
        assert len(response.token_ids) == len(response.log_probs) == 5
        assert vlm.end_id not in response.token_ids
    assert_close(
        learner_log_probs(vlm, prompts, [r.token_ids for r in responses], 1.0), [r.log_probs for r in responses]
    )


def test_responses_of_one_batch_end_where_each_of_them_ends(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    force(vlm, monkeypatch, vlm.end_id, 4.0)
    prompts = vlm.encode([frames(seed=i) for i in range(16)], ["go."] * 16)
    responses = generate(vlm, prompts, max_new_tokens=8)
    lengths = {len(r.token_ids) for r in responses}
    assert len(lengths) > 2
    for response in responses:
        ids = response.token_ids.tolist()
        assert vlm.end_id not in ids[:-1]
        assert ids[-1] == vlm.end_id or len(ids) == 8
    assert_close(
        learner_log_probs(vlm, prompts, [r.token_ids for r in responses], 1.0), [r.log_probs for r in responses]
    )


def test_forbidden_tokens_and_padding_rows_are_never_sampled_however_hot(vlm: VLM) -> None:
    prompts = vlm.encode([frames(seed=i) for i in range(64)], ["go."] * 64)
    drawn = torch.cat([r.token_ids for r in generate(vlm, prompts, temperature=10.0, max_new_tokens=40)])
    assert len(drawn) > 2000
    assert not vlm.forbidden[drawn].any()
    rows = vlm.backbone.config.text_config.vocab_size
    allowed = int((~vlm.forbidden).sum())
    assert rows > len(vlm.tokenizer)
    assert allowed == len(vlm.tokenizer) - len(vlm.family.forbidden_tokens)
    assert vlm.forbidden[len(vlm.tokenizer) :].all()
    assert not vlm.forbidden[vlm.end_id]
    assert len(drawn.unique()) > 0.9 * allowed  # hot enough that every row had its chance


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_probabilities_of_the_allowed_tokens_sum_to_one(vlm: VLM, temperature: float) -> None:
    logits = torch.randn(7, len(vlm.forbidden), generator=torch.Generator().manual_seed(0)) * 5
    probabilities = vlm.token_log_probs(logits, temperature).exp()
    assert torch.allclose(probabilities[:, ~vlm.forbidden].sum(-1), torch.ones(7), atol=1e-5)
    assert not probabilities[:, vlm.forbidden].any()


def test_entropy_is_that_of_the_sampling_distribution(vlm: VLM) -> None:
    (prompt,) = vlm.encode([frames()], ["go."])
    with torch.no_grad():
        scores = vlm([prompt], [torch.tensor([vlm.end_id])], 0.8, entropies=True)
        logits = vlm.backbone(**vlm.collate([prompt])[0]).logits[0, -1]
    p = vlm.token_log_probs(logits, 0.8).exp().double()
    exact = -sum(float(x * x.log()) for x in p if x > 0)
    assert float(scores.entropies) == pytest.approx(exact, abs=1e-4)


def test_temperature_zero_takes_the_likeliest_allowed_token(vlm: VLM) -> None:
    prompts = mixed_prompts(vlm)
    first = generate(vlm, prompts, temperature=0.0, max_new_tokens=1, seed=0)
    assert [r.token_ids.tolist() for r in first] == [
        r.token_ids.tolist() for r in generate(vlm, prompts, temperature=0.0, max_new_tokens=1, seed=9)
    ]
    inputs, _ = vlm.collate(prompts)
    with torch.no_grad():
        logits = vlm.backbone(**inputs).logits[:, -1].masked_fill(vlm.forbidden, -torch.inf)
    assert [int(r.token_ids[0]) for r in first] == logits.argmax(-1).tolist()


def p_value(counts: Counter[int], probabilities: Tensor) -> float:
    """Of the chi-square test that `counts` were drawn from `probabilities`; rare tokens are pooled into one."""
    total = counts.total()
    common = [i for i, p in enumerate(probabilities.tolist()) if p * total >= 5]
    observed = [counts[i] for i in common]
    predicted = [float(probabilities[i]) * total for i in common]
    observed.append(total - sum(observed))
    predicted.append(total - sum(predicted))
    assert len(common) > 10
    assert predicted[-1] >= 5
    return float(chisquare(observed, predicted).pvalue)


def test_samples_follow_the_softmax_at_their_temperature(vlm: VLM) -> None:
    (prompt,) = vlm.encode([frames()], ["go."])
    with torch.no_grad():
        logits = vlm.backbone(**vlm.collate([prompt])[0]).logits[0, -1]
    counts: Counter[int] = Counter()
    for number in range(10):
        responses = TransformersEngine(vlm).generate(
            [prompt] * 200, max_new_tokens=1, temperature=0.1, seeds=range(200 * number, 200 * number + 200)
        )
        counts.update(int(r.token_ids[0]) for r in responses)
    assert p_value(counts, vlm.token_log_probs(logits, 0.1).exp().double()) > 1e-3
    assert p_value(counts, vlm.token_log_probs(logits, 0.15).exp().double()) < 1e-6  # the test can tell them apart


@pytest.mark.parametrize(
    "advice",
    [
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": 6},
        {"suppress_tokens": list(range(40, 200))},
    ],
    ids=lambda advice: next(iter(advice)),
)
def test_what_a_released_model_advises_for_chats_does_not_change_the_distribution(
    vlm: VLM, tmp_path: Path, advice: dict[str, Any]
) -> None:
    vlm.model.save_pretrained(tmp_path)
    vlm.tokenizer.save_pretrained(tmp_path)
    vlm.image_processor.save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | advice))
    advised = VLM.from_pretrained(tmp_path)
    prompts = mixed_prompts(vlm)
    expected = generate(vlm, prompts, temperature=0.5)
    found = generate(advised, prompts, temperature=0.5)
    assert [r.token_ids.tolist() for r in found] == [r.token_ids.tolist() for r in expected]
    ids = [r.token_ids for r in found]
    assert_close(learner_log_probs(advised, prompts, ids, 0.5), [r.log_probs for r in found])


def test_the_seeds_alone_decide_the_samples(vlm: VLM) -> None:
    prompts = mixed_prompts(vlm)
    torch.manual_seed(1)
    first = [r.token_ids.tolist() for r in generate(vlm, prompts, seed=5)]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = [r.token_ids.tolist() for r in generate(vlm, prompts, seed=5)]
    assert first == again
    assert torch.equal(torch.get_rng_state(), before)  # and the process-wide generator is left alone
    assert first != [r.token_ids.tolist() for r in generate(vlm, prompts, seed=6)]


# Placeholders. transformers' own Qwen processors need torchvision to be built, so the expansion is written out here.


@pytest.mark.parametrize(("height", "width", "count"), [(32, 32, 1), (48, 64, 1), (32, 48, 4)])
def test_each_image_has_a_quarter_as_many_placeholders_as_patches(
    any_vlm: VLM, height: int, width: int, count: int
) -> None:
    (prompt,) = any_vlm.encode([frames(count, height=height, width=width)], ["go."])
    patches = (height // 8) * (width // 8)
    assert prompt.pictures["image_grid_thw"].tolist() == [[1, height // 8, width // 8]] * count
    assert len(prompt.pictures["pixel_values"]) == patches * count
    assert int((prompt.input_ids == any_vlm.family.image_token_id).sum()) == patches * count // 4


def test_a_prompt_is_the_chat_format_with_each_placeholder_repeated(any_vlm: VLM) -> None:
    (prompt,) = any_vlm.encode([frames(2, height=32, width=48)], ["go {there}."])
    token = any_vlm.tokenizer.convert_tokens_to_ids
    newline = any_vlm.tokenizer("\n")["input_ids"]
    image = [token("<|vision_start|>"), *[token("<|image_pad|>")] * 6, token("<|vision_end|>")]
    expected = [
        token("<|im_start|>"),
        *any_vlm.tokenizer("user\n")["input_ids"],
        *image,
        *image,
        *any_vlm.tokenizer("go {there}.")["input_ids"],
        token("<|im_end|>"),
        *newline,
        token("<|im_start|>"),
        *any_vlm.tokenizer("assistant\n")["input_ids"],
    ]
    assert prompt.input_ids.tolist() == expected


def test_images_stay_with_their_own_prompts(vlm: VLM) -> None:
    windows = [frames(1, seed=1), frames(2, seed=2), frames(3, seed=3, height=48)]
    together = vlm.encode(windows, TEXTS)
    for window, text, prompt in zip(windows, TEXTS, together, strict=True):
        (alone,) = vlm.encode([window], [text])
        assert torch.equal(prompt.pictures["pixel_values"], alone.pictures["pixel_values"])
        assert torch.equal(prompt.pictures["image_grid_thw"], alone.pictures["image_grid_thw"])
        assert torch.equal(prompt.input_ids, alone.input_ids)


def test_a_written_response_ends_with_the_end_of_turn_and_reads_back(vlm: VLM) -> None:
    text = parsing.render_response(ParsedResponse('naïve "quotes"', "turn left"))
    ids = vlm.encode_response(text)
    assert int(ids[-1]) == vlm.end_id
    assert vlm.end_id not in ids[:-1]
    assert vlm.decode(ids) == text


def test_a_model_of_a_hub_is_of_one_commit_which_it_names(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    built = build("qwen2_vl", tmp_path_factory)
    assert built.commit is None
    cache = tmp_path / "models--org--tiny"
    (cache / "refs").mkdir(parents=True)
    for commit in ("a" * 40, "b" * 40):
        for part in (built.model, built.tokenizer, built.image_processor):
            part.save_pretrained(cache / "snapshots" / commit)
        (cache / "refs/main").write_text(commit)
        assert VLM.from_pretrained("org/tiny").commit == commit
    assert VLM.from_pretrained("org/tiny", revision="a" * 40).commit == "a" * 40


def test_a_model_of_an_unknown_family_is_named_before_its_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(UnsupportedFamilyError, match=r"'llava'.*qwen2_vl.*model\.family"):
        VLM.from_pretrained(tmp_path)


def test_a_head_that_is_kept_in_float32_says_what_it_said_and_is_converted_once(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = build("qwen2_vl", tmp_path_factory).to(torch.bfloat16)
    vlm = VLM(vlm.model, vlm.family).eval()  # which sees how its head is stored
    prompts = mixed_prompts(vlm)
    responses = [response.token_ids for response in generate(vlm, prompts)]
    monkeypatch.setattr("vldac.models.vlm.CHUNK", 2 * len(vlm.forbidden))  # of several chunks
    before, names = vlm(prompts, responses, 1.0, entropies=True), set(vlm.state_dict())
    vlm.keep_head()
    monkeypatch.setattr("vldac.models.vlm._float32_logits", None)
    after = vlm(prompts, responses, 1.0, entropies=True)
    assert torch.equal(before.log_probs, after.log_probs)
    assert torch.equal(before.entropies, after.entropies)
    head = vlm.family.lm_head(vlm.backbone)
    head.forward = None  # nothing asks it
    again = [response.token_ids for response in generate(vlm, prompts)]
    assert all(torch.equal(*pair) for pair in zip(again, responses, strict=True))
    assert set(vlm.state_dict()) == names  # it is no weight of the model
    # In float32 there is nothing to keep.
    whole = build("qwen2_vl", tmp_path_factory)
    whole.keep_head()
    assert whole._kept_head is None


def test_positions_share_one_use_of_a_head_that_lies_in_shards(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = mixed_prompts(vlm)
    responses = [torch.tensor([5, 6, vlm.end_id])] * len(prompts)
    monkeypatch.setattr("vldac.models.vlm.CHUNK", 2 * len(vlm.forbidden))
    uses: list[int] = []
    hook = vlm.family.lm_head(vlm.backbone).register_forward_hook(lambda *_: uses.append(1))
    counts = []
    for lockstep in (False, True):
        monkeypatch.setattr(vlm, "lockstep", lockstep)
        uses.clear()
        vlm(prompts, responses, 1.0)
        counts.append(len(uses))
    hook.remove()
    assert counts[0] > 1 == counts[1]


def test_a_new_adapter_is_the_identity_and_can_be_disabled(tmp_path_factory: pytest.TempPathFactory) -> None:
    vlm = build("qwen2_vl", tmp_path_factory)
    prompts = mixed_prompts(vlm)
    responses = [vlm.encode_response(text) for text in ("x", "y", "z")]
    base = learner_log_probs(vlm, prompts, responses, 1.0)
    with pytest.raises(TypeError, match="no adapter"), vlm.adapter_disabled():
        pass
    vlm.add_adapter(4, 8)
    assert_close(learner_log_probs(vlm, prompts, responses, 1.0), base)
    with torch.no_grad():
        for name, parameter in vlm.named_parameters():
            assert parameter.requires_grad == ("lora_" in name)
            if "lora_B" in name:
                assert "visual" not in name
                parameter.normal_(std=0.5)
    assert not torch.allclose(learner_log_probs(vlm, prompts, responses, 1.0)[1], base[1], atol=1e-3)
    with vlm.adapter_disabled():
        assert_close(learner_log_probs(vlm, prompts, responses, 1.0), base)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_encoded_once_give_the_same_distribution(family: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    vlm = build(family, tmp_path_factory)
    plain = mixed_prompts(vlm)
    assert all(a is b for a, b in zip(vlm.encode_frames(plain), plain, strict=True))  # the tower may still be trained
    vlm.add_adapter(4, 8)
    with torch.no_grad():
        encoded = vlm.encode_frames(plain)
    assert all(prompt.features is not None for prompt in encoded)
    assert not any(prompt.pictures["pixel_values"].numel() for prompt in encoded)  # gigabytes in a rollout of a shop
    responses = generate(vlm, plain)
    ids = [r.token_ids for r in responses]
    again = generate(vlm, encoded)
    assert [r.token_ids.tolist() for r in again] == [i.tolist() for i in ids]
    assert_close([r.log_probs for r in again], [r.log_probs for r in responses])
    assert_close(learner_log_probs(vlm, encoded, ids, 1.0), learner_log_probs(vlm, plain, ids, 1.0))
    assert torch.allclose(vlm.states(encoded), vlm.states(plain), atol=1e-5)
