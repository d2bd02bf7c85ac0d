from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import model
from benchmarks.exam import Message, Request
from benchmarks.examinee import VLMExaminee
from vldac.vlm import VLM


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
    together = VLMExaminee(vlm, min_pixels=256).answer(requests)
    assert together == [VLMExaminee(vlm, min_pixels=256).answer([one])[0] for one in requests]
    assert together[0] != together[4]
    assert VLMExaminee(vlm, min_pixels=256).answer(requests[::-1]) == together[::-1]


def test_a_batch_is_cut_up_where_it_would_be_too_long(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = VLM.generate

    def generate(self: VLM, prompts: Any, **options: Any) -> Any:
        sizes.append(len(prompts))
        return original(self, prompts, **options)

    monkeypatch.setattr(VLM, "generate", generate)
    requests = [request("x" * n) for n in (1, 5, 9, 2)]
    whole = VLMExaminee(vlm, min_pixels=256).answer(requests)
    assert sizes == [4]
    assert VLMExaminee(vlm, min_pixels=256, tokens_at_once=1).answer(requests) == whole
    assert sizes == [4, 1, 1, 1, 1]


def test_a_short_prompt_is_not_padded_to_a_long_one(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = VLM.generate

    def generate(self: VLM, prompts: Any, **options: Any) -> Any:
        sizes.append([len(prompt.input_ids) for prompt in prompts])
        return original(self, prompts, **options)

    monkeypatch.setattr(VLM, "generate", generate)
    VLMExaminee(vlm, min_pixels=256).answer([request("Q" * n, max_new_tokens=1) for n in (1, 500, 600, 2000, 200)])
    assert [len(batch) for batch in sizes] == [2, 2, 1]
    assert all(max(batch) <= 1.5 * max(256, min(batch)) for batch in sizes)


def test_pictures_are_brought_within_the_limits(vlm: VLM) -> None:
    picture = np.zeros((128, 128, 3), np.uint8)
    VLMExaminee(vlm, max_pixels=64 * 64, min_pixels=256)
    (prompt,) = vlm.encoder([(Message("user", (picture,)),)])
    cell = vlm.image_processor.patch_size
    assert prompt.image_grid_thw.tolist() == [[1, 64 // cell, 64 // cell]]
    with pytest.raises(ValueError, match="min_pixels 10 must be above 0 and at most max_pixels 5"):
        VLMExaminee(vlm, max_pixels=5, min_pixels=10)


def test_what_is_no_directory_is_tried_as_a_hub_id_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(base: str, **_options: Any) -> VLM:
        raise OSError(f"no connection for {base}")

    monkeypatch.setattr(VLM, "from_pretrained", away)
    with pytest.raises(OSError, match="models/nowhere is no directory, and as a hub id it cannot be loaded"):
        model.load("models/nowhere", None)


@pytest.mark.slow
def test_the_command_examines_a_directory_and_goes_on(tiny_base: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "benchmarks", "--exam", "understanding", "--base", str(tiny_base)),
        *("--out", str(tmp_path / "exam"), "--style", "terse", "--limit", "2", "--min-pixels", "256"),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "overall" in first.stdout
    records = (tmp_path / "exam/records.jsonl").read_bytes()
    assert json.loads((tmp_path / "exam/summary.json").read_text())["count"] == len(records.splitlines())
    subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "exam/records.jsonl").read_bytes() == records
    other = subprocess.run([*command, "--max-new-tokens", "3"], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert other.stderr.startswith("error: ")
    assert "holds another exam" in other.stderr
