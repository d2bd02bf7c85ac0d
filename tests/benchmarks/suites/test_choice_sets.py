"""ERQA, MuirBench and the spatial tasks of Video-MME on small tables in their published layout."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from pyarrow import parquet

from benchmarks.harness import tables
from benchmarks.harness.options import Options
from benchmarks.harness.records import Records
from benchmarks.harness.run import run_benchmark
from benchmarks.harness.tables import Row, read_pictures, read_rows
from benchmarks.harness.task import BenchmarkDataError, Request
from benchmarks.report.data import read_benchmark
from benchmarks.suites.choice_sets.choice_set import ChoiceSet
from benchmarks.suites.choice_sets.erqa import ERQA
from benchmarks.suites.choice_sets.muirbench import MuirBench
from benchmarks.suites.choice_sets.video_mme import VideoMMESpatial
from vldac.utils import pictures


def picture(level: int, kind: str = "PNG", size: tuple[int, int] = (8, 6)) -> dict[str, Any]:
    content = io.BytesIO()
    PIL.Image.new("RGB", size, (level, level, level)).save(content, kind)
    return {"bytes": content.getvalue(), "path": None}


def levels(parts: Sequence[Any]) -> list[Any]:
    """A message with each picture as its gray level."""
    return [part if isinstance(part, str) else round(float(part.mean())) for part in parts]


ERQA_CONTENT: list[tuple[str, list[Any], str]] = [
    ("Spatial Reasoning", [picture(10), None, picture(20)], "A"),
    ("Pointing", [picture(30, "JPEG")], "D"),
    ("Spatial Reasoning", [picture(40)], "B"),
]
ERQA_ROWS: list[dict[str, Any]] = [
    {
        "question_id": f"ERQA_{number}",
        "question_type": kind,
        "question": f"Question {number}? Choices: A. up. B. down. C. left. D. right.",
        "images": images,
        "visual_indices": [0] * len(images),
        "answer": answer,
    }
    for number, (kind, images, answer) in enumerate(ERQA_CONTENT)
]
MUIR_ROWS: list[dict[str, Any]] = [
    {
        "idx": "1",
        "task": "Counting",
        "image_list": [picture(10), picture(20)],
        "question": "How many more in <image> than in <image>?",
        "options": ["One", "Two", "None of the choices provided"],
        "answer": "B",
    },
    {
        "idx": "2",
        "task": "Visual Retrieval",
        "image_list": [picture(30), picture(40), picture(50)],
        "question": "Which shows the same place?",
        "options": ["<image>", "<image>"],
        "answer": "A",
    },
]
MME_ROWS: list[dict[str, Any]] = [
    {
        "question_id": f"00{number}-1",
        "task_type": task,
        "videoID": video,
        "question": f"Where is it, {number}?",
        "options": ["A. Left.", "B. Right.", "C. Above.", "D. Below."],
        "answer": "C",
    }
    for number, (task, video) in enumerate(
        [("Spatial Perception", "-abc_1"), ("OCR Problems", "-abc_1"), ("Spatial Reasoning", "xyz")]
    )
]


def write(folder: Path, rows: Sequence[dict[str, Any]], rows_a_group: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "test-00000-of-00001.parquet"
    parquet.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=rows_a_group)
    return folder


def write_video(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(9):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_erqa_shows_all_pictures_before_the_published_question(tmp_path: Path) -> None:
    questions = ERQA(Options(data=write(tmp_path, ERQA_ROWS))).questions()
    assert [levels(question.load()[0].content) for question in questions] == [
        [10, 20, ERQA_ROWS[0]["question"]],
        [30, ERQA_ROWS[1]["question"]],
        [40, ERQA_ROWS[2]["question"]],  # of the second group of rows
    ]
    assert [question.task for question in questions] == ["Spatial Reasoning", "Pointing", "Spatial Reasoning"]


def test_muirbench_puts_pictures_where_the_text_has_them(tmp_path: Path) -> None:
    first, second = MuirBench(Options(data=write(tmp_path, MUIR_ROWS))).questions()
    content = levels(first.load()[0].content)
    assert content[:4] == ["How many more in ", 10, " than in ", 20]
    assert content[4].startswith("?\nA. One\nB. Two\nC. None of the choices provided\n")
    content = levels(second.load()[0].content)
    assert content[:5] == [30, "Which shows the same place?\nA. ", 40, "\nB. ", 50], "one has no place in the text"


def test_video_mme_asks_the_spatial_tasks_alone(tmp_path: Path) -> None:
    write(tmp_path, MME_ROWS)
    write_video(tmp_path / "data" / "-abc_1.mp4")
    write_video(tmp_path / "data" / "xyz.mkv")
    questions = VideoMMESpatial(Options(data=tmp_path, frames=3)).questions()
    assert [question.id for question in questions] == ["000-1", "002-1"]
    *frames, text = questions[1].load()[0].content
    assert levels(frames) == [pytest.approx(level, abs=2) for level in (0, 80, 160)]
    assert isinstance(text, str)
    assert text.split("\n")[1:6] == ["Where is it, 2?", *MME_ROWS[2]["options"]]


@pytest.mark.parametrize(
    ("benchmark", "rows", "answer", "score"),
    [
        (ERQA, ERQA_ROWS, "A", 1.0),
        (ERQA, ERQA_ROWS, "Because of this, the answer is (A).", 1.0),
        (ERQA, ERQA_ROWS, "a", 0.0),
        (ERQA, ERQA_ROWS, "", 0.0),
        (MuirBench, MUIR_ROWS, "B", 1.0),
        (MuirBench, MUIR_ROWS, " b\n", 1.0),
        (MuirBench, MUIR_ROWS, "  B. Two", 1.0),
        (MuirBench, MUIR_ROWS, "b. Two", 0.0),  # only a capital letter is taken from a longer answer
        (MuirBench, MUIR_ROWS, "(B)", 0.0),
        (MuirBench, MUIR_ROWS, "The answer is B.", 0.0),
        (MuirBench, MUIR_ROWS, "", 0.0),
        (VideoMMESpatial, MME_ROWS, "C. Above", 1.0),
        (VideoMMESpatial, MME_ROWS, "It is above", 0.0),
    ],
)
def test_scores(
    tmp_path: Path, benchmark: type[ChoiceSet], rows: list[dict[str, Any]], answer: str, score: float
) -> None:
    first = benchmark(Options(data=write(tmp_path, rows)))
    scored = first.score(first.questions()[0], answer)
    assert scored.score == score
    assert scored.parsed is None or len(str(scored.parsed)) <= 64


class Always:
    def __init__(self, text: str) -> None:
        self.text = text

    def answer(self, requests: Sequence[Request]) -> list[str]:
        return [self.text for _ in requests]


def test_every_question_counts_the_same(tmp_path: Path) -> None:
    benchmark = ERQA(Options(data=write(tmp_path / "data", ERQA_ROWS)))
    with Records(tmp_path / "records", benchmark.identity()) as records:
        benchmark.run(Always("A"), records)
        summary = benchmark.summarize(list(records))
    assert summary["score"] == pytest.approx(100 / 3), "one of three, although the mean of the tasks is a quarter"
    assert summary["count"] == 3
    assert {task: values["score"] for task, values in summary["tasks"].items()} == {
        "Pointing": 0.0,
        "Spatial Reasoning": 50.0,
    }


def test_the_limit_is_of_each_task(tmp_path: Path) -> None:
    questions = ERQA(Options(data=write(tmp_path, ERQA_ROWS), limit=1)).questions()
    assert [question.id for question in questions] == ["ERQA_0", "ERQA_1"]


def test_identity_follows_the_data(tmp_path: Path) -> None:
    a = ERQA(Options(data=write(tmp_path / "a", ERQA_ROWS))).identity()
    b = ERQA(Options(data=write(tmp_path / "b", ERQA_ROWS))).identity()
    c = ERQA(Options(data=write(tmp_path / "c", [*ERQA_ROWS[:2], ERQA_ROWS[2] | {"answer": "C"}]))).identity()
    assert a == b
    assert a != c


def one_line(error: pytest.ExceptionInfo[BaseException], *words: str) -> None:
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("benchmark", "rows", "change", "words"),
    [
        (ERQA, ERQA_ROWS, {"answer": "E"}, ("'answer'", "'E'")),
        (ERQA, ERQA_ROWS, {"question": None}, ("'question'",)),
        (ERQA, ERQA_ROWS, {"question_id": "ERQA_1"}, ("occurs twice",)),
        (MuirBench, MUIR_ROWS, {"options": ["One"], "answer": "A"}, ("1 options",)),
        (MuirBench, MUIR_ROWS, {"answer": "D"}, ("'answer'",)),
        (VideoMMESpatial, MME_ROWS, {"options": ["A. Left."]}, ("1 options",)),
    ],
)
def test_a_wrong_row_is_an_error(
    tmp_path: Path,
    benchmark: type[ChoiceSet],
    rows: list[dict[str, Any]],
    change: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    with pytest.raises(BenchmarkDataError) as error:
        benchmark(Options(data=write(tmp_path, [rows[0] | change, *rows[1:]])))
    one_line(error, "row ", *words)


def test_every_question_is_put_in_either_profile(tmp_path: Path) -> None:
    benchmark = ERQA(Options(data=write(tmp_path / "data", ERQA_ROWS), profile="short"))
    assert len(benchmark.questions()) == len(ERQA_ROWS)
    summary = run_benchmark(benchmark, Always("A"), tmp_path / "erqa", {"digest": "x"})
    assert summary["identity"]["profile"] == "full"
    assert not read_benchmark(tmp_path / "erqa").short


def test_missing_data_is_said_in_one_line(tmp_path: Path) -> None:
    for options, words in (
        (Options(), "FlagEval/ERQA"),
        (Options(data=tmp_path), "no test*.parquet"),
        (Options(data=tmp_path / "absent"), "no folder"),
    ):
        with pytest.raises(BenchmarkDataError) as error:
            ERQA(options)
        one_line(error, words)
    (tmp_path / "test.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(BenchmarkDataError) as error:
        ERQA(Options(data=tmp_path))
    one_line(error, "cannot be read")


def test_a_video_outside_of_the_data_is_never_read(tmp_path: Path) -> None:
    write_video(tmp_path / "outside.mp4")
    folder = write(tmp_path / "set", [MME_ROWS[0] | {"videoID": "../../outside"}, MME_ROWS[2]])
    outside, absent = VideoMMESpatial(Options(data=folder)).questions()
    with pytest.raises(BenchmarkDataError) as error:
        outside.load()
    one_line(error, "no name of a video")
    with pytest.raises(BenchmarkDataError) as error:
        absent.load()
    one_line(error, "xyz.mp4", "not fetched from the hub: unpack", "lmms-eval/Video-MME", "--data")


def test_too_few_pictures_are_an_error(tmp_path: Path) -> None:
    rows = [MUIR_ROWS[0] | {"image_list": [picture(1)]}]
    with pytest.raises(BenchmarkDataError) as error:
        MuirBench(Options(data=write(tmp_path, rows))).questions()[0].load()
    one_line(error, "2 places for 1 pictures")


def test_pictures_that_cannot_be_read_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = picture(1)
    broken = {"bytes": good["bytes"][:40], "path": None}
    eps = {"bytes": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "path": None}
    folder = write(
        tmp_path, [{"n": n, "images": [entry]} for n, entry in enumerate((good, broken, eps, {"path": "x"}))]
    )
    rows = read_rows(folder / "test-00000-of-00001.parquet", ("n",))
    assert [row.values for row in rows] == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}]
    assert read_pictures(rows[0], "images")[0].shape == (6, 8, 3)
    for row, words in zip(rows[1:], ("cannot be read", "cannot be read", "without its bytes"), strict=True):
        with pytest.raises(BenchmarkDataError) as error:
            read_pictures(row, "images")
        one_line(error, f"row {row.index}", words)
    for column, words in (("n", "no list of pictures"), ("absent", "no column")):
        with pytest.raises(BenchmarkDataError) as error:
            read_pictures(rows[0], column)
        one_line(error, words)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 40)
    with pytest.raises(BenchmarkDataError) as error:
        read_pictures(rows[0], "images")
    one_line(error, "more than 40 pixels")


def test_tables_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, ERQA_ROWS)
    (tmp_path / "test.jsonl").write_text('{"n": 1}\n' * 3)
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    for name in ("test-00000-of-00001.parquet", "test.jsonl"):
        with pytest.raises(BenchmarkDataError) as error:
            read_rows(folder / name, ("n",))
        one_line(error, "2")
    monkeypatch.setattr(tables, "MAX_BYTES", 20)
    with pytest.raises(BenchmarkDataError, match="more than 20 bytes"):
        read_rows(tmp_path / "test.jsonl", ("n",))


def test_fields_are_checked() -> None:
    row = Row(Path("t.jsonl"), 4, {"a": 1.5, "b": True, "c": ["x"], "d": [1], "e": " "})
    assert row.text("a") == "1.5"
    assert row.texts("c") == ("x",)
    assert row.texts("absent") == ()
    for name in ("b", "c", "e", "absent"):
        with pytest.raises(BenchmarkDataError, match="row 4"):
            row.text(name)
    for name in ("a", "d"):
        with pytest.raises(BenchmarkDataError, match="row 4"):
            row.texts(name)
