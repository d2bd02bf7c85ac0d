"""The benchmark on the synthetic set, from questions to summary."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.records import Record, Records
from benchmarks.harness.task import BenchmarkDataError, Question, Request
from benchmarks.suites.vsi_bench.benchmark import TASKS, VSIBench
from benchmarks.suites.vsi_bench.scoring import MULTIPLE_CHOICE, NUMERIC
from benchmarks.suites.vsi_bench.suite import VSIBenchOptions
from vldac.models.conversation import Message


class Expert:
    """Answers every question of a benchmark with what `choose` makes of it, found again by its text and first frame."""

    def __init__(self, benchmark: VSIBench, choose: Callable[[Question], str]) -> None:
        self.answers = {self.key(question.load()): choose(question) for question in benchmark.questions()}

    @staticmethod
    def key(messages: Sequence[Message]) -> tuple[str, bytes]:
        return messages[-1].text, messages[-1].images[0].tobytes()

    def answer(self, requests: Sequence[Request]) -> list[str]:
        return [self.answers[self.key(request.messages)] for request in requests]


def gold(question: Question) -> str:
    return str(question.gold["ground_truth"])


def run(benchmark: VSIBench, directory: Path, choose: Callable[[Question], str]) -> dict[str, Any]:
    with Records(directory, benchmark.identity()) as records:
        benchmark.run(Expert(benchmark, choose), records)
        return benchmark.summarize(list(records))


def test_an_expert_is_perfect_and_records_are_kept(tmp_path: Path) -> None:
    benchmark = VSIBench(VSIBenchOptions(batch_size=32))
    assert benchmark.synthetic
    assert benchmark.identity()["synthetic"]
    summary = run(benchmark, tmp_path, gold)
    assert summary["score"] == 100.0
    assert summary["standard_error"] == 0.0
    assert list(summary["tasks"]) == list(TASKS)
    assert all(task["score"] == 100.0 for task in summary["tasks"].values())
    counts = {task: values["count"] for task, values in summary["tasks"].items()}
    assert counts == dict.fromkeys(TASKS, 8) | {"object_rel_direction": 24}
    with Records(tmp_path, benchmark.identity()) as records:
        assert len(records) == 80
        assert "<image>" * 8 in next(iter(records)).prompt


def test_one_letter_throughout_gets_its_share(tmp_path: Path) -> None:
    summary = run(VSIBench(VSIBenchOptions()), tmp_path, lambda question: "A")
    for task in ("object_rel_distance", "route_planning", "obj_appearance_order"):
        assert summary["tasks"][task]["score"] == 25.0
    levels = summary["tasks"]["object_rel_direction"]["metrics"]
    assert levels["easy"] == 50.0
    assert levels["hard"] == 25.0
    assert levels["medium"] in (25.0, 37.5)  # eight questions, three letters
    assert all(summary["tasks"][kind]["score"] == 0.0 for kind in NUMERIC)


def test_a_random_letter_gets_what_chance_gives() -> None:
    benchmark = VSIBench(VSIBenchOptions())
    generator = random.Random(7)
    shares: dict[str, list[float]] = {}
    for question in [question for question in benchmark.questions() if question.task in MULTIPLE_CHOICE] * 50:
        options = {"object_rel_direction_easy": "AB", "object_rel_direction_medium": "ABC"}.get(question.task, "ABCD")
        shares.setdefault(question.task, []).append(
            benchmark.score(question, generator.choice(options)).score * len(options)
        )
    assert all(abs(np.mean(values) - 1) < 5 * np.std(values) / len(values) ** 0.5 for values in shares.values())


def test_the_set_is_the_same_in_every_benchmark_and_larger_in_full() -> None:
    assert VSIBench(VSIBenchOptions(seed=1)).identity()["data"] == VSIBench(VSIBenchOptions(seed=2)).identity()["data"]
    few = VSIBench(VSIBenchOptions(profile="full", limit=2))
    assert few.frames == 32
    assert [question.id for question in few.questions()] == [q.id for q in VSIBench(VSIBenchOptions()).questions()[:20]]
    assert VSIBench(VSIBenchOptions(frames=99)).frames == 8
    with pytest.raises(BenchmarkDataError, match="at least 8 frames"):
        VSIBench(VSIBenchOptions(profile="full", frames=4))


@pytest.mark.parametrize(
    "change", [{"style": "terse"}, {"parser": "lmms-eval"}, {"limit": 3}, {"profile": "full", "limit": 8}, {"seed": 1}]
)
def test_identity_tells_benchmarks_apart(change: dict[str, Any]) -> None:
    assert VSIBench(VSIBenchOptions(**change)).identity() != VSIBench(VSIBenchOptions()).identity()


def test_what_was_read_is_kept_as_json() -> None:
    benchmark = VSIBench(VSIBenchOptions(limit=1))
    questions = {question.task: question for question in benchmark.questions()}
    counting, choice = (
        replace(questions[task], gold={"question_type": task, "ground_truth": truth})
        for task, truth in (("object_counting", "4"), ("object_rel_distance", "C"))
    )
    assert benchmark.score(counting, "4 tables").parsed == 4.0
    assert benchmark.score(counting, "nan").parsed is None
    assert benchmark.score(counting, "inf").parsed is None
    assert benchmark.score(counting, "four").parsed is None
    assert benchmark.score(choice, "c. stove").parsed == "c"
    assert benchmark.score(choice, "c. stove").score == 1.0
    assert benchmark.score(choice, "").parsed is None
    sentence = VSIBench(VSIBenchOptions(limit=1, parser="lmms-eval"))
    assert sentence.score(counting, "there are four").score == 1.0
    assert benchmark.score(counting, "there are four").score == 0.0


def record(task: str, number: int, score: float) -> Record:
    return Record(f"{task}{number}", task, "", (), "", None, score)


def test_relative_direction_is_the_mean_of_its_levels() -> None:
    scores = {
        "object_rel_direction_easy": [1.0, 1.0, 0.0, 0.0],
        "object_rel_direction_medium": [1.0],
        "object_rel_direction_hard": [0.0, 0.0, 0.0, 0.0, 1.0],
        "route_planning": [1.0, 0.0],
        "object_counting": [0.1, 0.3],
    }
    records = [record(task, number, score) for task, of_task in scores.items() for number, score in enumerate(of_task)]
    summary = VSIBench(VSIBenchOptions(limit=1)).summarize(records)
    direction = summary["tasks"]["object_rel_direction"]
    assert direction["metrics"] == pytest.approx({"easy": 50.0, "medium": 100.0, "hard": 20.0})
    assert direction["score"] == pytest.approx((50 + 100 + 20) / 3)
    errors = (0.25 / 4) ** 0.5, 0.0, (0.16 / 5) ** 0.5
    assert direction["standard_error"] == pytest.approx(100 * sum(error**2 for error in errors) ** 0.5 / 3)
    assert direction["count"] == 10
    assert summary["score"] == pytest.approx((direction["score"] + 50.0 + 20.0) / 3)
    assert list(summary["tasks"]) == ["object_counting", "object_rel_direction", "route_planning"]


@pytest.mark.parametrize("levels", [("easy",), ("easy", "hard"), ("medium",)])
def test_of_a_subset_the_levels_that_are_there_count(levels: tuple[str, ...]) -> None:
    records = [
        record(f"object_rel_direction_{level}", number, score)
        for level in levels
        for number, score in enumerate((1.0, 0.0))
    ]
    summary = VSIBench(VSIBenchOptions(limit=1)).summarize(records)
    direction = summary["tasks"]["object_rel_direction"]
    assert direction["score"] == pytest.approx(50.0)
    assert direction["count"] == 2 * len(levels)
    assert direction["metrics"] == dict.fromkeys(levels, 50.0)
    assert summary["score"] == pytest.approx(50.0)


def test_no_records_are_an_error() -> None:
    with pytest.raises(ValueError, match="no records"):
        VSIBench(VSIBenchOptions(limit=1)).summarize([])
