"""lmms-eval is not among this project's packages: a small package of the same interface (0.7.3) stands in for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from benchmarks.harness import command_line
from benchmarks.harness.options import Options
from benchmarks.harness.task import Image, Request
from benchmarks.lmms_eval import command
from benchmarks.lmms_eval.command import evaluate, lmms_eval, main, make_model
from benchmarks.lmms_eval.results import UnsupportedTaskError
from tests.benchmarks.harness.benchmark_cases import Told
from vldac.utils.pictures import PictureError

# The parts of lmms_eval that a model and its caller meet: the abstract base class, requests, tasks, one evaluation.
FAKE = {
    "__init__.py": "",
    "api/__init__.py": "",
    "api/model.py": """
import abc
import torch.nn as nn

class lmms(abc.ABC):
    is_simple = True

    def __init__(self):
        self._rank = 0
        self._world_size = 1
        self.task_dict = {}

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...

    def clean(self):
        for name in list(vars(self)):
            if isinstance(getattr(self, name), nn.Module):
                delattr(self, name)
""",
    "api/instance.py": """
from dataclasses import dataclass, field

@dataclass
class Instance:
    request_type: str
    arguments: tuple
    idx: int
    metadata: dict = field(default_factory=dict)
    resps: list = field(default_factory=list)
    task_name: str = None

    def __post_init__(self):
        self.task_name = self.metadata["task"]

    @property
    def args(self):
        return self.arguments
""",
    "tasks/__init__.py": """
class TaskManager:
    def __init__(self, verbosity="INFO", include_path=None, include_defaults=True, model_name=None):
        assert isinstance(model_name, str)
        self.all_tasks = ["gqa", "mmbench_en_dev", "pairs"]
""",
    "evaluator.py": """
import copy
import os
from PIL import Image
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms

ROWS = [{"color": color, "name": name} for color, name in [((250, 0, 0), "red"), ((0, 0, 250), "blue")] * 3]
OPTIONS = {"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "until": ["\\n\\n"]}

def to_messages(row):
    picture = Image.new("RGB", (12, 8), row["color"])
    text = {"type": "text", "text": "<image>Which color?\\nAnswer the question using a single word or phrase."}
    return [{"role": "user", "content": [{"type": "image", "url": picture}, text]}]

def simple_evaluate(*, model, tasks, task_manager, limit, batch_size, cli_args):
    assert isinstance(model, lmms)
    assert not model.is_simple
    assert cli_args.process_with_media is False
    results, samples, counts = {}, {}, {}
    for task in tasks:
        rows = ROWS[:limit]
        model.task_dict[task] = {"testdev": ROWS}
        requests = [
            Instance("generate_until", ("context", to_messages, copy.deepcopy(OPTIONS), i, task, "testdev"), 0,
                     {"task": task, "doc_id": i, "repeats": 1})
            for i in range(len(rows))
        ]
        texts = model.generate_until(requests)
        assert len(texts) == len(requests)
        scores = [float(text.lower() == row["name"]) for text, row in zip(texts, rows)]
        samples[task] = [
            {"doc_id": i, "target": row["name"], "arguments": ["context", OPTIONS, i, task, "testdev"],
             "resps": [[text]], "filtered_resps": [text], "exact_match": score}
            for i, (row, text, score) in enumerate(zip(rows, texts, scores))
        ]
        mean = sum(scores) / len(scores)
        results[task] = {"alias": task, "exact_match,none": mean, "exact_match_stderr,none": "N/A",
                         "exact_match_stderr_clt,none": 0.125, "exact_match_stderr_clustered,none": "N/A"}
        counts[task] = {"original": len(ROWS), "effective": len(rows)}
        os.makedirs(os.path.join(cli_args.output_path, "submissions"), exist_ok=True)
    model.clean()
    return {"results": results, "n-samples": counts, "samples": samples, "config": {"model": type(model)}}
""",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, source in FAKE.items():
        path = tmp_path / "site" / "lmms_eval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "lmms_eval"]:
        del sys.modules[name]


def sees(request: Request) -> str:
    """The color of the last picture, and more than was asked for."""
    red, _, blue = request.messages[-1].images[-1][0, 0]
    return f" {'Red' if red > blue else 'Blue'}\n\nbecause it is so"


def ask(answerer: Any, *messages: dict[str, Any], options: dict[str, Any] | None = None) -> list[str]:
    """Puts questions of one user message each, as lmms-eval would."""
    made = make_model(answerer, frames=5, batch_size=2)
    made.task_dict["sums"] = {"test": list(messages)}
    instances = [
        SimpleNamespace(args=("context", lambda row: [row], options or {}, i, "sums", "test"), task_name="sums")
        for i in range(len(messages))
    ]
    texts: list[str] = made.generate_until(instances)
    return texts


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


@pytest.mark.usefixtures("package")
def test_requests_are_answered_in_order_and_in_batches() -> None:
    told = Told(lambda request: request.messages[0].text.upper())
    assert ask(told, *(said(text) for text in "abcde")) == list("ABCDE")
    assert told.batches == [2, 2, 1]


@pytest.mark.usefixtures("package")
def test_what_a_request_becomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = PIL.Image.new("RGBA", (6, 4), (10, 20, 30, 255))
    picture.convert("RGB").save(tmp_path / "a.png")
    read: list[Any] = []

    def read_frames(source: Path, count: int) -> tuple[Image, ...]:
        read.append((source, count))
        return tuple(np.full((2, 2, 3), i, np.uint8) for i in range(count))

    monkeypatch.setattr(command.video, "read_frames", read_frames)
    content = [
        {"type": "text", "text": "first "},
        {"type": "image", "url": picture},
        {"type": "text", "text": "<image>then <image 2>"},
        {"type": "image", "url": str(tmp_path / "a.png")},
        {"type": "video", "url": "/data/v.mp4"},
    ]
    asked: list[Request] = []

    def note(request: Request) -> str:
        asked.append(request)
        return ""

    ask(
        Told(note),
        {"role": "user", "content": content},
        options={"max_new_tokens": 1024, "temperature": 0, "top_p": 0.9},
    )
    ask(Told(note), said("x"), said("y"), said("z"), options={"temperature": 0.5, "top_p": 1.0, "num_beams": 1})
    (message,) = asked[0].messages
    assert (message.role, message.text) == ("user", "first then <image 2>")
    kinds = ["text" if isinstance(part, str) else part.shape for part in message.content]
    assert kinds == ["text", (4, 6, 3), "text", (4, 6, 3), *[(2, 2, 3)] * 5]
    assert all(np.array_equal(image, np.full((4, 6, 3), (10, 20, 30))) for image in message.images[:2])
    assert all(image.dtype == np.uint8 for image in message.images)
    assert read == [(Path("/data/v.mp4"), 5)]
    assert [(r.max_new_tokens, r.temperature) for r in asked] == [(1024, 0.0), (128, 0.5), (128, 0.5), (128, 0.5)]
    assert [r.seed for r in asked] == [0, 0, 1, 2]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("until", "left"),
    [
        (None, "one two\n\nthree"),
        ([], "one two\n\nthree"),
        (["\n\n"], "one two"),
        ("two", "one"),
        (["three", "two", ""], "one"),
        (["four"], "one two\n\nthree"),
    ],
)
def test_answers_end_before_the_first_stop_text(until: Any, left: str) -> None:
    assert ask(Told(lambda _: " one two\n\nthree "), said("?"), options={"until": until}) == [left]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 3}, said("?")),
        ({"temperature": 0.7, "top_p": 0.9}, said("?")),
        ({"temperature": 0.7, "top_k": 20}, said("?")),
        ({}, {"role": "user", "content": [{"type": "audio", "url": "a.wav"}]}),
        ({}, {"role": "user", "content": [{"type": "video", "url": {"video_start": 1}}]}),
    ],
)
def test_what_this_model_does_not_do_is_an_error(options: dict[str, Any], message: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedTaskError, match=r"leave (it|its task) out") as error:
        ask(Told(lambda _: ""), message, options=options)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("package")
def test_other_kinds_of_request_are_not_answered() -> None:
    made = make_model(Told(lambda _: ""), frames=1, batch_size=1)
    for kind in ("loglikelihood", "generate_until_multi_round"):
        with pytest.raises(NotImplementedError, match=r"task seed .*; leave the task out"):
            getattr(made, kind)([SimpleNamespace(task_name="seed")])


@pytest.mark.usefixtures("package")
def test_a_task_that_lmms_eval_does_not_know(tmp_path: Path) -> None:
    made = make_model(Told(sees), frames=1, batch_size=1)
    with pytest.raises(UnsupportedTaskError, match="no task 'gqaa'; list them with: lmms-eval tasks"):
        evaluate(["gqa", "gqaa"], made, tmp_path, None, 1)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command without a model: answers come from `sees`."""
    monkeypatch.setattr(command.model, "load", lambda *_, **_options: torch.nn.Linear(1, 1))
    monkeypatch.setattr(command.model, "digest", lambda *_: "0123")
    monkeypatch.setattr(command.runner, "VLMRunner", lambda *_, **limits: Told(sees))


@pytest.mark.usefixtures("package", "no_model")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--tasks", "gqa, pairs", "--base", "b", "--out", str(tmp_path / "out"), "--batch-size", "4"]
    assert main(command) == 0
    assert main(command) == 0  # goes over the same questions again, and keeps the records that are there
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["score"], summary["standard_error"], summary["count"]) == (100.0, 12.5, 6)
    assert (summary["benchmark"], summary["synthetic"]) == ("lmms_eval", False)
    assert summary["identity"]["tasks"] == ["gqa", "pairs"]
    assert summary["unscored"] == {"pairs": {"exact_match,none": 1.0, "exact_match_stderr_clt,none": 0.125}}
    lines = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"gqa-{i}" for i in range(6)]
    assert [line["answer"] for line in lines] == ["Red", "Blue"] * 3
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["results"]["gqa"]["exact_match,none"] == 1.0
    assert "samples" not in results
    printed = capsys.readouterr().out
    assert "gqa                      100.00 +- 12.50   n=6" in printed


@pytest.mark.usefixtures("package", "no_model")
def test_the_limit_reaches_lmms_eval(tmp_path: Path) -> None:
    main(["--tasks", "gqa", "--base", "b", "--out", str(tmp_path), "--limit", "2"])
    assert json.loads((tmp_path / "summary.json").read_text())["count"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_a_real_model_answers(tiny_base: Path, tmp_path: Path) -> None:
    main(["--tasks", "gqa", "--base", str(tiny_base), "--out", str(tmp_path), "--limit", "3", "--batch-size", "2"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["count"] == 3
    assert summary["identity"]["dtype"] == "torch.float32"
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 3


def test_without_lmms_eval_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    for call in (
        lambda: lmms_eval("evaluator"),
        lambda: main(["--tasks", "gqa", "--base", "nowhere", "--out", "nowhere"]),
        lambda: make_model(Told(sees), frames=1, batch_size=1),
    ):
        with pytest.raises(
            ModuleNotFoundError, match=r"lmms_eval.* is not installed; .*: pip install lmms-eval==0\.7\.3"
        ) as error:
            call()
        assert "\n" not in str(error.value)


def test_the_command_line_has_the_papers_limits() -> None:
    parsed = command.parser().parse_args(["--tasks", "gqa", "--base", "b", "--out", "o", "--limit", "7"])
    options = command_line.validated(Options, command_line.given(parsed, Options), pytest.fail)
    assert options.limit == 7
    assert (options.max_pixels, options.min_pixels, options.frames) == (200_704, 3_136, 32)


@pytest.mark.usefixtures("package")
def test_a_picture_that_cannot_be_read_costs_its_question_alone(tmp_path: Path) -> None:
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    bad = {"role": "user", "content": [{"type": "image", "url": str(tmp_path / "eps.png")}]}
    told = Told(lambda request: request.messages[0].text)
    made = make_model(told, frames=5, batch_size=2)
    made.task_dict["sums"] = {"test": [said("a"), bad, said("c"), bad, bad]}
    instances = [
        SimpleNamespace(args=("context", lambda row: [row], {}, i, "sums", "test"), task_name="sums") for i in range(4)
    ]
    with pytest.raises(PictureError):
        made.generate_until(instances)  # half of them
    assert made.generate_until(instances[:3]) == ["a", "", "c"]
    assert told.batches[-2:] == [1, 1]
    assert "eps.png" in made.unanswered["sums-1"]
