"""The published layout: tables, videos, archives, and whatever may be wrong with them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import huggingface_hub
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from benchmarks.harness.options import Profile
from benchmarks.harness.run import run_benchmark
from benchmarks.harness.task import BenchmarkDataError
from benchmarks.suites.vsi_bench.benchmark import VSIBench
from benchmarks.suites.vsi_bench.suite import VSIBenchOptions
from tests.benchmarks.harness.benchmark_cases import Told

PROFILES: tuple[Profile, ...] = ("short", "full")
ROWS: list[dict[str, Any]] = [
    {
        "id": 0,
        "dataset": "arkitscenes",
        "scene_name": "41069025",
        "question_type": "object_counting",
        "question": "How many table(s) are in this room?",
        "options": None,
        "ground_truth": "4",
    },
    {
        "id": 1,
        "dataset": "scannet",
        "scene_name": "scene0353_00",
        "question_type": "object_rel_distance",
        "question": "Which is closest to the tv?",
        "options": ["A. chair", "B. stool", "C. stove", "D. sofa"],
        "ground_truth": "C",
    },
    {
        "id": 2,
        "dataset": "arkitscenes",
        "scene_name": "41069025",
        "question_type": "object_abs_distance",
        "question": "How far is the tv from the sofa?",
        "options": None,
        "ground_truth": "1.5",
    },
    {
        "id": 3,
        "dataset": "scannet",
        "scene_name": "scene0353_00",
        "question_type": "object_counting",
        "question": "How many chair(s) are in this room?",
        "options": None,
        "ground_truth": "2",
    },
]


def write_jsonl(folder: Path, rows: Sequence[dict[str, Any]] = ROWS) -> None:
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_video(path: Path, frames: int = 20) -> None:
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path)
    write_video(tmp_path / "arkitscenes" / "41069025.mp4")
    write_video(tmp_path / "scannet" / "scene0353_00.mp4")
    return tmp_path


def test_questions_of_the_published_layout(folder: Path) -> None:
    benchmark = VSIBench(VSIBenchOptions(data=folder, frames=4))
    assert not benchmark.synthetic
    questions = benchmark.questions()
    assert [question.id for question in questions] == ["0", "2", "1", "3"], "one video after the other"
    (message,) = questions[0].load()
    assert [round(float(image.mean()) / 10) for image in message.images] == [0, 6, 12, 19]
    *images, text = message.content
    assert len(images) == 4
    assert isinstance(text, str)
    lines = text.split("\n")
    assert lines[1] == ROWS[0]["question"]
    assert "number" in lines[2]
    choice = questions[2].load()[0].text.split("\n")
    assert choice[1:7] == [ROWS[1]["question"], "Options:", *ROWS[1]["options"]]
    assert "letter" in choice[7]


def test_the_short_profile_leaves_out_no_published_question(folder: Path) -> None:
    short, full = (VSIBench(VSIBenchOptions(data=folder, profile=profile)) for profile in PROFILES)
    assert len(short.questions()) == len(ROWS)
    assert short.identity() == full.identity()
    assert short.profile == "full"
    assert VSIBench(VSIBenchOptions(profile="short")).profile == "short"


def test_terse_prompts_are_the_question_and_little_else(folder: Path) -> None:
    terse = VSIBench(VSIBenchOptions(data=folder, frames=1, style="terse")).questions()[0].load()[0].text
    full = VSIBench(VSIBenchOptions(data=folder, frames=1)).questions()[0].load()[0].text
    assert terse.startswith(ROWS[0]["question"])
    assert len(terse) < len(full)


def test_archives_need_not_be_unpacked(folder: Path) -> None:
    unpacked = VSIBench(VSIBenchOptions(data=folder, frames=4))
    before, identity = unpacked.questions()[2].load()[0].images, unpacked.identity()
    with zipfile.ZipFile(folder / "scannet.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "scannet" / "scene0353_00.mp4", "scannet/scene0353_00.mp4")
    (folder / "scannet" / "scene0353_00.mp4").unlink()
    packed = VSIBench(VSIBenchOptions(data=folder, frames=4))
    after = packed.questions()[2].load()[0].images
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert packed.identity() == identity


def test_an_archive_that_would_grow_as_no_video_does_is_not_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(folder / "scannet.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scannet/scene0353_00.mp4", bytes(2**23))
    (folder / "scannet" / "scene0353_00.mp4").unlink()
    question = VSIBench(VSIBenchOptions(data=folder)).questions()[2]
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(BenchmarkDataError, match=r"would grow from \d+ to 8388608 bytes, as no video does; download"):
        question.load()


def test_parquet_gives_the_same_benchmark(folder: Path) -> None:
    from_lines = VSIBench(VSIBenchOptions(data=folder)).identity()
    (folder / "test.jsonl").unlink()
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "test-00000-of-00001.parquet")
    assert VSIBench(VSIBenchOptions(data=folder)).identity() == from_lines


def test_the_limit_is_of_each_question_type(folder: Path) -> None:
    questions = VSIBench(VSIBenchOptions(data=folder, limit=1)).questions()
    assert sorted(question.id for question in questions) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("id", 1, "occurs twice"),
        ("id", None, "'id'"),
        ("dataset", "..", "no name of a video"),
        ("scene_name", "../../etc/passwd", "no name of a video"),
        ("scene_name", "/etc/passwd", "no name of a video"),
        ("question", "", "'question'"),
        ("question", ["a"], "'question'"),
        ("question_type", "object_colour", "no question type"),
        ("ground_truth", "four", "no positive number"),
        ("ground_truth", "0", "no positive number"),
        ("ground_truth", "nan", "no positive number"),
        ("ground_truth", "inf", "no positive number"),
        ("ground_truth", True, "'ground_truth'"),
        ("options", "A. chair", "'options'"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(folder: Path, field: str, value: Any, words: str) -> None:
    write_jsonl(folder, [ROWS[1], ROWS[0] | {field: value}])
    with pytest.raises(BenchmarkDataError) as error:
        VSIBench(VSIBenchOptions(data=folder))
    assert words in str(error.value)
    assert "row 1" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"options": None}, "0 options"), ({"ground_truth": "E"}, "none of"), ({"ground_truth": "chair"}, "none of")],
)
def test_a_wrong_choice_is_named_in_one_line(folder: Path, changes: dict[str, Any], words: str) -> None:
    write_jsonl(folder, [ROWS[1] | changes])
    with pytest.raises(BenchmarkDataError, match=words):
        VSIBench(VSIBenchOptions(data=folder))


@pytest.mark.parametrize("content", ["{", "[1]\n", '{"id": 1}\n[]\n', "[" * 100_000, "", "\xff\n"])
def test_a_broken_table_is_an_error(folder: Path, content: str) -> None:
    (folder / "test.jsonl").write_text(content, encoding="latin-1")
    with pytest.raises(BenchmarkDataError) as error:
        VSIBench(VSIBenchOptions(data=folder))
    assert "test.jsonl" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_data_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    (folder / "scannet" / "scene0353_00.mp4").unlink()
    with pytest.raises(BenchmarkDataError, match=r"neither .*scene0353_00.mp4 nor .*scannet.zip"):
        VSIBench(VSIBenchOptions(data=folder)).identity()
    (folder / "scannet.zip").write_bytes(b"no archive")
    with pytest.raises(BenchmarkDataError, match="no readable archive"):
        VSIBench(VSIBenchOptions(data=folder)).identity()
    (folder / "test.jsonl").unlink()
    with pytest.raises(BenchmarkDataError, match=r"neither test\.jsonl nor"):
        VSIBench(VSIBenchOptions(data=folder))
    with pytest.raises(BenchmarkDataError, match="no folder"):
        VSIBench(VSIBenchOptions(data=tmp_path / "absent"))


def test_one_missing_video_costs_its_question_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "scannet" / "scene0353_00.mp4").unlink()
    write_jsonl(folder, [ROWS[0], ROWS[2], ROWS[3]])
    out = tmp_path / "out"
    summary = run_benchmark(VSIBench(VSIBenchOptions(data=folder, frames=2)), Told(lambda _: "4"), out, {})
    assert (summary["unanswered"], summary["count"]) == (1, 3)
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    (lost,) = [line for line in lines if line["id"] == "3"]
    assert lost["score"] == 0.0
    assert "scene0353_00.mp4" in lost["details"]["unanswered"]


def test_a_name_that_is_no_folder_is_fetched_from_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((name, repo_type, "test.jsonl" in allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(VSIBench(VSIBenchOptions(data=Path("nyu-visionx/VSI-Bench"))).questions()) == len(ROWS)
    assert asked == [("nyu-visionx/VSI-Bench", "dataset", True)]

    def fail(name: str, **_: Any) -> str:
        raise FileNotFoundError("no connection\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(BenchmarkDataError, match=r"no folder nyu-visionx/VSI-Bench.*no connection at all"):
        VSIBench(VSIBenchOptions(data=Path("nyu-visionx/VSI-Bench")))
