from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from benchmark_cases import Sums, Told, adds

from benchmarks.__main__ import table
from benchmarks.harness import registry
from benchmarks.harness.options import Options
from benchmarks.harness.records import OtherBenchmarkError, Record, Records, RecordsError
from benchmarks.harness.run import run_benchmark
from benchmarks.harness.scores import in_percent, known_error, overall, plus_minus
from benchmarks.harness.task import BenchmarkDataError, Message, Question, Request
from benchmarks.report import data as report_data

MODEL = {"digest": "a"}


def record(name: str, **changes: object) -> Record:
    values = {"task": "t", "prompt": "p", "images": ("i",), "answer": "a", "parsed": None, "score": 0.5} | changes
    return Record(id=name, **values)  # type: ignore[arg-type]


def test_records_come_back_as_they_were_whatever_was_said(tmp_path: Path) -> None:
    hostile = 'a\u2028b\x85c\nd\udc80 "é" \x00 <|im_end|>'
    with Records(tmp_path, {"a": 1}) as records:
        records.add(record("one", answer=hostile, metrics={"m": 0.1}, details={"actions": ["go", hostile]}))
        records.add(record("two", parsed=2.5))
    with Records(tmp_path, {"a": 1}) as again:
        assert list(again) == [
            record("one", answer=hostile, metrics={"m": 0.1}, details={"actions": ["go", hostile]}),
            record("two", parsed=2.5),
        ]
        assert "one" in again
        assert "three" not in again
        with pytest.raises(ValueError, match="record of two"):
            again.add(record("two"))
    assert len((tmp_path / "records.jsonl").read_bytes().splitlines()) == 2


def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    with Records(tmp_path, {}) as records:
        records.add(record("one"))
        records.add(record("two"))
    path = tmp_path / "records.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:cut])
        with Records(tmp_path, {}) as records:
            assert [r.id for r in records] == ["one"]
            records.add(record("two"))
        assert path.read_bytes() == whole


def test_records_of_another_benchmark_are_never_mixed_in(tmp_path: Path) -> None:
    Records(tmp_path, {"benchmark": "a", "model": {"digest": "x"}}).__exit__(None, None, None)
    with pytest.raises(OtherBenchmarkError, match=r"another benchmark \(it differs in model\); name another directory"):
        Records(tmp_path, {"benchmark": "a", "model": {"digest": "y"}})


def test_one_process_at_a_time_writes_records(tmp_path: Path) -> None:
    # The lock belongs to the open file, so that two in one process exclude each other as those of two processes do.
    with Records(tmp_path, {}) as records:
        records.add(record("one"))
        for overwrite in (False, True):
            with pytest.raises(RecordsError, match=r"another process writes the records in \S+; wait for it, or name"):
                Records(tmp_path, {"other": 1}, overwrite=overwrite)
        records.add(record("two"))
    with Records(tmp_path, {}) as again:
        assert [r.id for r in again] == ["one", "two"]


def test_a_directory_that_was_refused_is_free_again(tmp_path: Path) -> None:
    Records(tmp_path, {"n": 1}).__exit__(None, None, None)
    with pytest.raises(OtherBenchmarkError):
        Records(tmp_path, {"n": 2})
    Records(tmp_path, {"n": 1}).__exit__(None, None, None)


FIELDS = '{"id": "x", "task": "t", "prompt": "", "images": [], "answer": "", "parsed": null'


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", '{"id": "one"}', '{"images": 1}', "\x00" * 20, "[" * 100_000),
        *(f'{FIELDS}, "score": {score}}}' for score in ('"x"', "null", "2", "NaN", "1" + "0" * 400)),
        f'{FIELDS}, "score": 1, "metrics": {{"f1": "x"}}}}',
        f'{FIELDS}, "score": 1, "details": []}}',
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    with Records(tmp_path, {}) as records:
        records.add(record("one"))
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(line + "\n")
    before = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(RecordsError, match=r"records\.jsonl, line 2, was not written by a benchmark; remove \S+ and"):
        Records(tmp_path, {})
    assert (tmp_path / "records.jsonl").read_bytes() == before
    (tmp_path / "benchmark.json").write_text(line)
    with pytest.raises(
        RecordsError, match=r"benchmark\.json, was not written by a benchmark; remove|holds another benchmark"
    ):
        Records(tmp_path, {})


def test_the_error_of_a_single_record_is_unknown() -> None:
    one, two = in_percent([1.0]), in_percent([0.0, 1.0])
    assert plus_minus(one) == "100.00 +- unknown"
    assert plus_minus(two) == " 50.00 +- 35.36"
    assert known_error(overall({"a": two, "b": two})) == pytest.approx(25.0)
    assert known_error(overall({"a": two, "b": one})) is None
    share = in_percent([0.0, 1.0, 1.0])  # over all questions, whatever their tasks
    assert known_error(share | {"tasks": {"a": two, "b": one}}) == share["standard_error"]


def test_records_of_another_benchmark_go_where_that_is_asked_for(tmp_path: Path) -> None:
    for identity, kept in (({"n": 1}, 0), ({"n": 1}, 1), ({"n": 2}, 0)):
        with Records(tmp_path, identity, overwrite=True) as records:
            assert len(records) == kept
            if not kept:
                records.add(record("one"))


def test_a_benchmark_is_put_in_batches_and_summed_up_by_task(tmp_path: Path) -> None:
    told = Told(lambda request: adds(request) if "3 + 3" not in request.messages[0].text else "no idea")
    summary = run_benchmark(Sums(Options(batch_size=3)), told, tmp_path, MODEL)
    assert told.batches == [3, 3, 1]
    assert summary["tasks"]["even"] == {"score": 100.0, "standard_error": 0.0, "count": 4}
    odd = summary["tasks"]["odd"]
    assert odd["score"] == pytest.approx(100 * 2 / 3)
    assert odd["standard_error"] == pytest.approx(100 * ((2 / 9) / 3) ** 0.5)
    assert summary["score"] == pytest.approx((100 + 200 / 3) / 2)
    assert summary["standard_error"] == pytest.approx(odd["standard_error"] / 2)
    assert summary["synthetic"]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    first = json.loads((tmp_path / "records.jsonl").read_text().splitlines()[3])
    assert first["prompt"] == "[user] <image>3 + 3 ="
    assert (first["answer"], first["parsed"], first["score"], first["images"]) == ("no idea", None, 0.0, ["grey:3"])


def test_no_scores_of_another_model_are_left_when_a_benchmark_is_killed(tmp_path: Path) -> None:
    def killed(_request: Request) -> str:
        raise KeyboardInterrupt

    run_benchmark(Sums(Options()), Told(adds), tmp_path, {"digest": "b"})
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(Sums(Options()), Told(killed), tmp_path, {"digest": "a"}, overwrite=True)
    assert json.loads((tmp_path / "benchmark.json").read_text())["model"] == {"digest": "a"}
    assert not (tmp_path / "summary.json").exists()


def test_other_inputs_are_another_benchmark_but_not_another_protocol(tmp_path: Path) -> None:
    told = Told(adds)
    first = run_benchmark(Sums(Options()), told, tmp_path, MODEL, inputs="one")
    assert run_benchmark(Sums(Options()), told, tmp_path, MODEL, inputs="one") == first
    assert sum(told.batches) == 7
    for inputs in ("two", None):
        with pytest.raises(OtherBenchmarkError, match=r"it differs in inputs\); .* with --overwrite"):
            run_benchmark(Sums(Options()), told, tmp_path, MODEL, inputs=inputs)
    again = run_benchmark(Sums(Options()), told, tmp_path, MODEL, inputs="two", overwrite=True)
    assert sum(told.batches) == 14
    assert json.loads((tmp_path / "benchmark.json").read_text())["inputs"] == "two"
    assert again == first
    assert "inputs" not in again["identity"]


@pytest.mark.parametrize(("style", "score"), [("terse", 100.0), ("full", 0.0)])
def test_the_json_answers_of_small_models_are_read_where_prompts_are_terse(
    tmp_path: Path, style: Literal["terse", "full"], score: float
) -> None:
    told = Told(lambda request: json.dumps({"thoughts": "easy", "action": adds(request)}))
    summary = run_benchmark(Sums(Options(style=style)), told, tmp_path, MODEL)
    assert summary["score"] == score
    assert '"action"' in json.loads((tmp_path / "records.jsonl").read_text().splitlines()[0])["answer"]


def test_a_killed_benchmark_resumes(tmp_path: Path) -> None:
    whole = run_benchmark(Sums(Options(batch_size=2)), Told(adds), tmp_path / "whole", MODEL)
    asked: list[Request] = []

    def until_the_fifth(request: Request) -> str:
        asked.append(request)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return adds(request)

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(Sums(Options(batch_size=2)), Told(until_the_fifth), tmp_path / "killed", MODEL)
    rest = Told(adds)
    assert run_benchmark(Sums(Options(batch_size=2)), rest, tmp_path / "killed", MODEL) == whole
    assert sum(rest.batches) == 3
    files = [(tmp_path / name / "records.jsonl").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]


def test_an_unknown_benchmark_is_told_from_those_that_there_are() -> None:
    with pytest.raises(registry.UnknownBenchmarkError, match=r"'balrok'; did you mean 'balrog'\?"):
        registry.make("balrok", Options())
    with pytest.raises(registry.UnknownBenchmarkError, match="'x'; benchmarks are balrog, understanding, visual_web"):
        registry.get("x")


class Damaged(Sums):
    """Some of the pictures cannot be read."""

    broken: frozenset[str] = frozenset()

    def questions(self) -> Sequence[Question]:
        return [
            replace(question, load=_unreadable) if question.id in self.broken else question
            for question in super().questions()
        ]


def _unreadable() -> tuple[Message, ...]:
    raise BenchmarkDataError("row 3: its picture cannot be read; download it again")


def damaged(count: int, broken: Iterable[int]) -> Damaged:
    made = Damaged(Options(limit=count, batch_size=3))
    made.broken = frozenset(f"q{i}" for i in broken)
    return made


def test_a_question_that_cannot_be_put_is_recorded_and_counts_as_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(adds)
    summary = run_benchmark(damaged(9, [0, 4]), told, tmp_path, MODEL)
    assert (summary["unanswered"], summary["count"]) == (2, 9)
    assert "2 of 9 questions of Sums could not be put" in caplog.text
    assert "9 records, 2 of them of questions that could not be put" in table(summary)
    assert summary["tasks"]["even"]["score"] == pytest.approx(60.0)
    assert summary["tasks"]["odd"]["score"] == 100.0
    assert told.batches == [2, 2, 3]
    lost = json.loads((tmp_path / "records.jsonl").read_text().splitlines()[0])
    assert (lost["id"], lost["score"], lost["answer"], lost["metrics"]) == ("q0", 0.0, "", {"characters": 0.0})
    assert lost["details"] == {"unanswered": "row 3: its picture cannot be read; download it again"}
    # The others are not asked again, and the lost ones are, as soon as they can be.
    assert run_benchmark(damaged(9, [4]), told, tmp_path, MODEL)["unanswered"] == 1
    whole = run_benchmark(damaged(9, []), told, tmp_path, MODEL)
    assert "unanswered" not in whole
    assert whole["score"] == 100.0
    assert told.batches == [2, 2, 3, 1, 1]
    read = report_data.read_benchmark(_named(tmp_path))
    assert {record.score for record in read.records.values()} == {1.0}


def _named(directory: Path) -> Path:
    return directory.rename(directory.with_name("sums"))


@pytest.mark.parametrize(
    ("count", "broken", "asked"), [(100, range(100), 0), (100, range(10, 100), 10), (2, [0, 1], 0)]
)
def test_a_data_set_that_is_damaged_as_a_whole_fails_early(
    tmp_path: Path, count: int, broken: Iterable[int], asked: int
) -> None:
    told = Told(adds)
    with pytest.raises(BenchmarkDataError, match="row 3"):
        run_benchmark(damaged(count, broken), told, tmp_path, MODEL)
    assert sum(told.batches) == asked
    assert not (tmp_path / "summary.json").exists()


def test_a_tenth_may_be_lost(tmp_path: Path) -> None:
    summary = run_benchmark(damaged(100, range(9, 100, 10)), Told(adds), tmp_path, MODEL)
    assert summary["unanswered"] == 10
