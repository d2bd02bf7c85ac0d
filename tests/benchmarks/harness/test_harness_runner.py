from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import __main__ as command
from benchmarks.harness import run, runner
from benchmarks.harness.runner import VLMRunner
from benchmarks.harness.task import Message, Request
from vldac.engines.transformers import TransformersEngine
from vldac.evaluation import model
from vldac.models.prompts import Encoder
from vldac.models.vlm import VLM


def request(text: str, **options: Any) -> Request:
    picture = np.random.default_rng(len(text)).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return Request((Message("user", (picture, text)),), **{"max_new_tokens": 5, "temperature": 1.0} | options)


@pytest.fixture
def vlm(tiny_base: Path) -> VLM:
    return model.load(tiny_base, None)


def test_an_answer_does_not_depend_on_who_else_is_asked(vlm: VLM) -> None:
    requests = [
        request("a"),
        request("a longer one", seed=1),
        request("greedy", temperature=0.0),
        request("brief", max_new_tokens=1),
        request("a", seed=1),
        Request((Message("user", ("no picture",)),), 5, 1.0, 7),
    ]
    together = VLMRunner(vlm, min_pixels=256).answer(requests)
    assert together == [VLMRunner(vlm, min_pixels=256).answer([one])[0] for one in requests]
    assert together[0] != together[4]
    assert VLMRunner(vlm, min_pixels=256).answer(requests[::-1]) == together[::-1]


@pytest.mark.parametrize("size", [(4, 1000), (1000, 4), (1, 1), (1, 60), (3, 60), (60, 1)])
def test_a_picture_of_any_shape_is_answered(vlm: VLM, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    asked = Request((Message("user", (picture, "what is it?")),), 2)
    (text,) = VLMRunner(vlm, min_pixels=256).answer([asked])
    assert isinstance(text, str)


def test_a_batch_is_cut_up_where_it_would_be_too_long(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = TransformersEngine.generate

    def generate(self: TransformersEngine, prompts: Any, **options: Any) -> Any:
        sizes.append(len(prompts))
        return original(self, prompts, **options)

    monkeypatch.setattr(TransformersEngine, "generate", generate)
    requests = [request("x" * n) for n in (1, 5, 9, 2)]
    whole = VLMRunner(vlm, min_pixels=256).answer(requests)
    assert sizes == [4]
    assert VLMRunner(vlm, min_pixels=256, tokens_at_once=1).answer(requests) == whole
    assert sizes == [4, 1, 1, 1, 1]


def test_pictures_are_encoded_when_their_batch_is_near(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    generate, encode = TransformersEngine.generate, Encoder.__call__

    def generated(self: TransformersEngine, prompts: Any, **options: Any) -> Any:
        events.append(f"answer {len(prompts)}")
        return generate(self, prompts, **options)

    def encoded(self: Encoder, conversations: Any) -> Any:
        events.append(f"encode {len(conversations)}")
        return encode(self, conversations)

    monkeypatch.setattr(TransformersEngine, "generate", generated)
    monkeypatch.setattr(Encoder, "__call__", encoded)
    large = VLMRunner(vlm, min_pixels=256)
    requests = [request("x", max_new_tokens=1, seed=i) for i in range(5)]
    whole = large.answer(requests)
    assert events == ["encode 1"] * 5 + ["answer 5"]
    length = len(encode(vlm.encoder, [requests[0].messages])[0].input_ids)
    events.clear()
    small = VLMRunner(vlm, min_pixels=256, tokens_at_once=2 * (length + 1))
    assert small.answer(requests) == whole
    assert events == (["encode 1"] * 3 + ["answer 2", "answer 1"]) + ["encode 1"] * 2 + ["answer 2"]


def test_room_for_long_answers_is_taken_when_answers_are_long(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    generate = TransformersEngine.generate

    def generated(self: TransformersEngine, prompts: Any, *, max_new_tokens: int, **options: Any) -> Any:
        asked.append((len(prompts), max_new_tokens))
        return generate(self, prompts, max_new_tokens=max_new_tokens, **options)

    requests = [request(f"{i}", max_new_tokens=100, temperature=3.0, seed=i) for i in range(6)]
    expected = [vlm.decode(whole_answer(vlm, one)) for one in requests]
    monkeypatch.setattr(TransformersEngine, "generate", generated)
    monkeypatch.setattr(runner, "_ROOM", 4)
    longest = max(len(vlm.encoder([one.messages])[0].input_ids) for one in requests)
    assert VLMRunner(vlm, min_pixels=256, tokens_at_once=6 * (longest + 4)).answer(requests) == expected
    assert asked[0] == (6, 4)  # where room for the limit would leave one or two
    assert {room for _, room in asked} == {4, 16, 64, 100}  # as answers of all these lengths are among them
    assert all(count * (longest + room) <= 6 * (longest + 4) for count, room in asked if count > 1)


def whole_answer(vlm: VLM, one: Request) -> Tensor:
    (response,) = TransformersEngine(vlm).generate(
        vlm.encoder([one.messages]),
        max_new_tokens=one.max_new_tokens,
        temperature=one.temperature,
        seeds=[one.seed],
    )
    return response.token_ids


def test_a_full_device_is_told_in_one_line(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: VLM, *_prompts: Any, **_options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    monkeypatch.setattr(TransformersEngine, "generate", full)
    with pytest.raises(model.OutOfDeviceMemoryError, match=r"lower --tokens-at-once \(now 7\)[^\n]+$"):
        VLMRunner(vlm, min_pixels=256, tokens_at_once=7).answer([request("a")])


def test_a_short_prompt_is_not_padded_to_a_long_one(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = TransformersEngine.generate

    def generate(self: TransformersEngine, prompts: Any, **options: Any) -> Any:
        sizes.append([len(prompt.input_ids) for prompt in prompts])
        return original(self, prompts, **options)

    monkeypatch.setattr(TransformersEngine, "generate", generate)
    VLMRunner(vlm, min_pixels=256).answer([request("Q" * n, max_new_tokens=1) for n in (1, 500, 600, 2000, 200)])
    assert [len(batch) for batch in sizes] == [2, 2, 1]
    assert all(max(batch) <= 1.5 * max(256, min(batch)) for batch in sizes)


def test_pictures_are_brought_within_the_limits(vlm: VLM) -> None:
    picture = np.zeros((128, 128, 3), np.uint8)
    VLMRunner(vlm, max_pixels=64 * 64, min_pixels=256)
    (prompt,) = vlm.encoder([(Message("user", (picture,)),)])
    cell = vlm.image_processor.patch_size
    assert prompt.pictures["image_grid_thw"].tolist() == [[1, 64 // cell, 64 // cell]]
    with pytest.raises(ValueError, match="min_pixels 10 must be above 0 and at most max_pixels 5"):
        VLMRunner(vlm, max_pixels=5, min_pixels=10)


def test_what_is_no_directory_is_tried_as_a_hub_id_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(base: str, **_options: Any) -> VLM:
        raise OSError(f"no connection for {base}")

    monkeypatch.setattr(VLM, "from_pretrained", away)
    with pytest.raises(OSError, match="models/nowhere is no directory, and as a hub id it cannot be loaded"):
        model.load("models/nowhere", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch-size", "0"), "--batch-size: should be greater than or equal to 1, but is '0'"),
        (("--limit", "0"), "--limit: should be greater than or equal to 1, but is '0'"),
        (("--max-new-tokens", "-1"), "--max-new-tokens"),
        (("--threads", "-1"), "--threads"),
        (
            ("--frames", "many"),
            "--frames: should be a valid integer, unable to parse string as an integer, but is 'many'",
        ),
        (("--profile", "long"), "--profile: should be 'short' or 'full', but is 'long'"),
        (("--min-pixels", "9", "--max-pixels", "8"), "--min-pixels 9 exceeds --max-pixels 8; lower it"),
        (("--options", '{"frames": "9"}'), "--options: frames: should be a valid integer, but is '9'"),
        (("--options", '{"frame": 9}'), "--options: unknown key 'frame'; did you mean 'frames'?"),
        (("--options", "{"), "--options: Invalid JSON"),
        (("--agent", "cot"), "unrecognized arguments: --agent cot"),
        (("--revision", "v2"), "--revision is for a model of a hub, and . is a directory; leave it out"),
    ],
)
def test_impossible_options_end_before_a_model_is_loaded(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--benchmark", "understanding", "--base", ".", "--out", str(tmp_path), *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


class Loaded:
    """Stands for the model's loading, and keeps what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        monkeypatch.setattr(VLM, "from_pretrained", self)

    def __call__(self, base: Any, **options: Any) -> Any:
        self.asked.append({"base": str(base), **options})
        return torch.nn.Module()


def policy_on(base: str, directory: Path, **settings: Any) -> Path:
    directory.mkdir()
    config = {"model": {"base": base, **settings}}
    (directory / "vldac.json").write_text(json.dumps({"adapter": True, "config": config}))
    return directory


def test_a_model_is_benchmarked_as_it_was_saved_and_a_policy_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Loaded(monkeypatch)
    for name in ("load_adapter", "keep_head"):
        monkeypatch.setattr(torch.nn.Module, name, lambda *_: None, raising=False)
    policy = policy_on("org/a", tmp_path / "policy", revision="v1", dtype="bfloat16")
    model.load("org/a", None)
    model.load("org/a", None, dtype="float32", revision="v2")
    model.load("org/a", policy)
    model.load("org/a", policy, dtype="float32")  # the revision is the policy's, whatever the precision
    model.load("org/a", policy, revision="v2")
    model.load("org/b", policy)  # the revision of a base says nothing of another
    assert [(a["base"], a["dtype"], a["revision"]) for a in loaded.asked] == [
        ("org/a", "auto", None),
        ("org/a", torch.float32, "v2"),
        ("org/a", torch.bfloat16, "v1"),
        ("org/a", torch.float32, "v1"),
        ("org/a", torch.bfloat16, "v2"),
        ("org/b", torch.bfloat16, None),
    ]


def test_the_base_of_a_policy_is_benchmarked_as_the_policy_was_trained(
    vlm: VLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(base: str, policy: Path | None, **options: Any) -> VLM:
        loaded.append((base, policy, options))
        return vlm

    monkeypatch.setattr(model, "load", load)
    monkeypatch.setattr(run, "run_benchmark", lambda *_, **_options: benchmarks_summary())
    policy = policy_on("org/a", tmp_path / "policy", revision="v1", dtype="bfloat16")
    options = [
        "--benchmark",
        "understanding",
        "--base",
        "org/a",
        "--policy",
        str(policy),
        "--out",
        str(tmp_path / "out"),
    ]
    command.main([*options, "--base-out", str(tmp_path / "base")])
    as_trained = {"dtype": "bfloat16", "revision": "v1"}
    like = loaded[0][2].pop("like")  # what else decides how a model reads: its family, its system message
    assert (like.base, like.revision, like.dtype) == ("org/a", "v1", "bfloat16")
    assert loaded[1][2].pop("like") is None
    assert loaded == [("org/a", None, as_trained), ("org/a", policy, as_trained)]


def benchmarks_summary() -> dict[str, Any]:
    scores = {"count": 0, "score": 0.0, "standard_error": 0.0}
    return {"title": "", "synthetic": True, "tasks": {"a": scores}, **scores}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_of_a_checkpoint_is_kept(vlm: VLM, tmp_path: Path, dtype: torch.dtype) -> None:
    vlm.model.to(dtype).save_pretrained(tmp_path)
    vlm.tokenizer.save_pretrained(tmp_path)
    vlm.image_processor.save_pretrained(tmp_path)
    assert {p.dtype for p in model.load(tmp_path, None).parameters()} == {dtype}


def test_a_model_of_a_hub_is_told_from_its_other_commits(vlm: VLM) -> None:
    digests = set()
    for commit in ("a" * 40, "b" * 40):
        vlm.commit = commit
        digests.add(model.digest(vlm, "org/a", None))
    assert len(digests) == 2


@pytest.mark.slow
def test_the_command_benchmarks_a_directory_and_resumes(tiny_base: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "benchmarks", "--benchmark", "understanding", "--base", str(tiny_base)),
        *("--out", str(tmp_path / "benchmark"), "--style", "terse", "--limit", "2", "--min-pixels", "256"),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "overall" in first.stdout
    records = (tmp_path / "benchmark/records.jsonl").read_bytes()
    assert json.loads((tmp_path / "benchmark/summary.json").read_text())["count"] == len(records.splitlines())
    subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "benchmark/records.jsonl").read_bytes() == records
    changed = [*command, "--max-new-tokens", "3", "--inputs", "0123"]
    other = subprocess.run(changed, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert other.stderr.startswith("error: ")
    assert "holds another benchmark (it differs in inputs, max_new_tokens)" in other.stderr
