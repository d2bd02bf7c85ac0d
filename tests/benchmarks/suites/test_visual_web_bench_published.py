from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.harness.task import BenchmarkDataError
from benchmarks.suites.visual_web_bench.benchmark import VisualWebBench
from benchmarks.suites.visual_web_bench.example import TASKS
from benchmarks.suites.visual_web_bench.published import digest, folder, read
from benchmarks.suites.visual_web_bench.suite import VisualWebBenchOptions

_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def picture(number: int, mode: str = "RGB") -> dict[str, Any]:
    """A picture of one color as the data set stores it."""
    content = io.BytesIO()
    Image.new(mode, (8 + number, 6), (10 * number, 20, 30, 0)[: len(mode)]).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": f"{number}.png"}


def rows(task: str) -> list[dict[str, Any]]:
    """Three rows in the published layout, with the columns that are not read."""
    own: dict[str, dict[str, Any]] = {
        "web_caption": {"answer": "Red lamps."},
        "heading_ocr": {"answer": "Lamps"},
        "webqa": {"question": "How many?", "answer": ["5", "five"]},
        "element_ocr": {"bbox": [0.1, 0.25, 0.5, 0.75], "elem_desc": "", "answer": "Red {lamps}"},
        "element_ground": {"options": [[0.0, 0.0, 0.5, 0.5]] * 8, "elem_desc": "the {red} one", "answer": 7},
        "action_prediction": {
            "options": ["Lamp's page", "Sale"],
            "bbox": [0.0, 0.0, 1.0, 1.0],
            "elem_desc": "",
            "answer": 1,
        },
        "action_ground": {"options": [[0.0, 0.0, 0.5, 0.5]] * 8, "instruction": "buy a lamp", "answer": 0},
    }
    common = {"task_type": task, "website": "lamps.example", "image_size": [8, 6], "raw_image": picture(0)}
    return [{"id": f"x_{number}", "image": picture(number), **common, **own[task]} for number in range(3)]


def write(path: Path, content: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content), path, row_group_size=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for task in TASKS:
        write(tmp_path / task / "test-00000-of-00002.parquet", rows(task))
        write(tmp_path / task / "test-00001-of-00002.parquet", rows(task)[:1])
    return tmp_path


def test_every_row_is_a_question_with_its_own_picture(data: Path) -> None:
    examples = read(data, None)
    assert [example.task for example in examples] == [task for task in TASKS for _ in range(4)]
    assert [example.id for example in examples[:5]] == [
        "web_caption/0000",
        "web_caption/0001",
        "web_caption/0002",
        "web_caption/0003",
        "webqa/0000",
    ]
    assert examples[3].source == "web_caption/test-00001-of-00002.parquet, row 0, id x_0"
    for number in (2, 0, 3, 1):
        pixels = examples[number].load()
        assert pixels.shape == (6, 8 + number % 3, 3)
        assert pixels.dtype == np.uint8
        assert pixels[0, 0].tolist() == [10 * (number % 3), 20, 30]
    first = {example.task: example for example in reversed(examples)}
    assert first["webqa"].answer == ("5", "five")
    assert first["element_ocr"].bbox == (0.1, 0.25, 0.5, 0.75)
    assert first["element_ground"].elem_desc == "the {red} one"
    assert first["element_ground"].answer == 7
    assert first["action_prediction"].options == ("Lamp's page", "Sale")
    assert first["action_ground"].instruction == "buy a lamp"


def test_the_prompts_show_the_published_fields(data: Path) -> None:
    benchmark = VisualWebBench(VisualWebBenchOptions(data=data))
    assert not benchmark.synthetic
    texts = {question.task: question.load()[0].text for question in benchmark.questions()}
    assert 'content="YOUR ANSWER">' in texts["web_caption"]
    assert texts["webqa"].startswith("How many?\n")
    assert "[0.1, 0.25, 0.5, 0.75]" in texts["element_ocr"]
    assert "the {red} one" in texts["element_ground"]
    # the options as a Python list, without letters
    assert "\n[\"Lamp's page\", 'Sale']\n" in texts["action_prediction"]
    assert "[0.0, 0.0, 1.0, 1.0]" in texts["action_prediction"]
    assert "buy a lamp" in texts["action_ground"]
    terse = VisualWebBench(VisualWebBenchOptions(data=data, style="terse")).questions()
    assert next(q.load()[0].text for q in terse if q.task == "action_prediction").endswith("(A) Lamp's page (B) Sale")


def test_transparent_pictures_lose_their_transparency(data: Path) -> None:
    content = [row | {"image": picture(5, "RGBA")} for row in rows("web_caption")]
    write(data / "web_caption" / "test-00000-of-00002.parquet", content)
    assert read(data, 1)[0].load()[0, 0].tolist() == [50, 20, 30]


def test_a_limit_counts_for_each_task(data: Path) -> None:
    assert len(read(data, 1)) == 7
    assert len(VisualWebBench(VisualWebBenchOptions(data=data, profile="short")).questions()) == 7 * 4
    assert len(VisualWebBench(VisualWebBenchOptions(data=data, limit=2)).questions()) == 7 * 2


def test_other_data_has_another_digest(data: Path) -> None:
    before = VisualWebBench(VisualWebBenchOptions(data=data)).identity()
    assert before == VisualWebBench(VisualWebBenchOptions(data=data)).identity()
    assert before["data"] == digest(data)
    write(data / "webqa" / "test-00001-of-00002.parquet", rows("webqa")[1:])
    assert VisualWebBench(VisualWebBenchOptions(data=data)).identity()["data"] != before["data"]


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("web_caption", {"answer": 3}, "answer is 3; it must be a text"),
        ("web_caption", {"task_type": "webqa"}, "task_type is 'webqa' in the folder of web_caption"),
        ("webqa", {"answer": "five"}, "answer is 'five'; it must be a list of texts"),
        ("webqa", {"question": None}, "question is None; it must be a text"),
        ("element_ocr", {"bbox": [0.1, 0.2, 0.3]}, "bbox is [0.1, 0.2, 0.3]; it must be four numbers"),
        ("element_ocr", {"bbox": [0.1, 0.2, 0.3, float("nan")]}, "it must be four numbers"),
        ("element_ground", {"answer": -1}, "answer is -1; it must be the index of an option"),
        ("action_ground", {"answer": "A"}, "answer is 'A'; it must be the index of an option"),
        ("action_prediction", {"answer": 2}, "answer is 2; it must be the index of an option"),
        ("action_prediction", {"options": [1, 2]}, "options is [1, 2]; it must be a list of texts"),
    ],
)
def test_a_wrong_row_is_named_in_one_line(data: Path, task: str, change: dict[str, Any], message: str) -> None:
    content = rows(task)
    content = [content[0] | change, content[1] | change]
    write(data / task / "test-00001-of-00002.parquet", content)
    with pytest.raises(BenchmarkDataError) as error:
        read(data, None)
    assert str(error.value).endswith(message)
    assert "test-00001-of-00002.parquet, row 0" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_columns_files_and_folders_are_named_in_one_line(data: Path, tmp_path: Path) -> None:
    path = data / "webqa" / "test-00000-of-00002.parquet"
    write(path, [{key: value for key, value in row.items() if key != "question"} for row in rows("webqa")])
    with pytest.raises(
        BenchmarkDataError, match=r"has no column question; webqa needs image, answer, id, question, task"
    ):
        read(data, None)
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(BenchmarkDataError, match="is no parquet file"):
        read(data, None)
    for file in (data / "action_ground").iterdir():
        file.unlink()
    write(path, rows("webqa"))
    with pytest.raises(BenchmarkDataError, match=r"has no action_ground/test-\*\.parquet; it must be laid out as"):
        read(data, None)
    with pytest.raises(BenchmarkDataError, match="neither a folder nor a data set's id"):
        VisualWebBench(VisualWebBenchOptions(data=tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "image", [{"bytes": b"GIF89a", "path": "x"}, {"bytes": _EPS, "path": "x.png"}, {"bytes": None, "path": "x"}]
)
def test_a_picture_that_cannot_be_read_is_named(data: Path, image: dict[str, Any]) -> None:
    write(data / "web_caption" / "test-00000-of-00002.parquet", [row | {"image": image} for row in rows("web_caption")])
    with pytest.raises(BenchmarkDataError, match="group 0, row 0: image cannot be read"):
        read(data, 1)[0].load()


def test_an_id_is_fetched_from_the_hub(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(repo_id: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((repo_id, repo_type, allow_patterns))
        return str(data)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(VisualWebBench(VisualWebBenchOptions(data=Path("visualwebbench/VisualWebBench"))).questions()) == 28
    assert asked == [("visualwebbench/VisualWebBench", "dataset", [f"{task}/test-*.parquet" for task in TASKS])]

    def fail(*_: object, **__: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("the network is away\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(BenchmarkDataError) as error:
        folder(Path("visualwebbench/VisualWebBench"))
    assert str(error.value).endswith("is no folder, and the hub does not give it: the network is away")
