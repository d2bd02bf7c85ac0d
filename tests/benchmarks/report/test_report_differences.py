from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cases import by_task, made, write

from benchmarks.harness.records import Record, Records
from benchmarks.harness.scores import in_percent, overall
from benchmarks.report import command
from benchmarks.report.data import ReportError, read
from benchmarks.report.differences import MOST_CHANGES, Comparison, Difference, compare
from benchmarks.report.published import PUBLISHED, find
from benchmarks.suites.visual_web_bench.benchmark import VisualWebBench
from benchmarks.suites.vsi_bench.benchmark import VSIBench
from vldac.utils.errors import report_errors
from vldac.utils.files import write_json

Z = 1.959963984540054


def vsi(records: Sequence[Record]) -> dict[str, Any]:
    return VSIBench.summarize(object.__new__(VSIBench), records)


def web(records: Sequence[Record]) -> dict[str, Any]:
    return VisualWebBench.summarize(object.__new__(VisualWebBench), records)


def compared(before: Path, after: Path) -> Comparison:
    (only,) = compare(read(before), read(after))
    return only


def difference(comparison: Comparison, task: str) -> Difference:
    (found,) = [row.difference for row in comparison.tasks if row.name == task]
    assert found is not None
    return found


def about(value: float) -> Any:
    """Equals a float that is nearly this one, where a field is to be a float."""
    return pytest.approx(value)


def test_differences_are_those_of_a_slow_computation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = {task: rng.random((2, n)) for task, n in (("a", 7), ("b", 50), ("c", 11))}
    for side, name in enumerate(("before", "after")):
        write(tmp_path / name, [r for task, s in scores.items() for r in made(task, s[side])])
    comparison = compared(tmp_path / "before", tmp_path / "after")
    means, errors = [], []
    for task, (before, after) in scores.items():
        steps = [100 * (b - a) for a, b in zip(before, after, strict=True)]
        mean = sum(steps) / len(steps)
        error = (sum((step - mean) ** 2 for step in steps) / len(steps) / len(steps)) ** 0.5
        found = difference(comparison, task)
        assert (found.mean, found.standard_error) == pytest.approx((mean, error))
        assert found.interval == pytest.approx((mean - Z * error, mean + Z * error))
        assert (found.count, found.paired) == (len(steps), True)
        means.append(mean)
        errors.append(error)
    total = comparison.overall.difference
    assert total is not None
    assert (total.mean, total.count) == (pytest.approx(sum(means) / 3), 68)
    assert total.standard_error == pytest.approx(sum(error**2 for error in errors) ** 0.5 / 3)
    one, two = comparison.overall.before, comparison.overall.after
    assert one is not None
    assert two is not None
    assert total.mean == pytest.approx(two.score - one.score)
    apart = [side.standard_error for side in (one, two) if side.standard_error is not None]
    assert total.standard_error != pytest.approx(np.linalg.norm(apart))


def test_relative_direction_is_the_mean_of_its_levels_however_many_questions_each_has(tmp_path: Path) -> None:
    counts = {"easy": 3, "medium": 8, "hard": 20}
    steps: dict[str, Any] = {}
    for name in ("before", "after"):
        rng = np.random.default_rng(len(name))
        sides = {level: rng.random(n) for level, n in counts.items()}
        records = [r for level, s in sides.items() for r in made(f"object_rel_direction_{level}", s)]
        steps = {level: s - steps[level] if steps else s for level, s in sides.items()}
        write(tmp_path / name, records, benchmark="vsi_bench", title="VSI-Bench", summarize=vsi)
    comparison = compared(tmp_path / "before", tmp_path / "after")
    found = difference(comparison, "object_rel_direction")
    assert found.paired
    assert found.mean == pytest.approx(100 * sum(s.mean() for s in steps.values()) / 3)
    assert found.standard_error == pytest.approx(100 * sum(s.var() / len(s) for s in steps.values()) ** 0.5 / 3)
    assert found.count == 31


def test_questions_of_webqa_that_the_benchmark_leaves_out_are_left_out(tmp_path: Path) -> None:
    before = made("webqa", [0, 1, 0.5, 0], metrics={"f1": 0.0})
    after = [*made("webqa", [1, 1, 0.5], metrics={"f1": 0.0}), made("webqa", [0, 0, 0, 0])[3]]
    for name, records in (("before", before), ("after", after)):
        write(tmp_path / name, records, benchmark="visual_web_bench", title="VisualWebBench", summarize=web)
    found = difference(compared(tmp_path / "before", tmp_path / "after"), "webqa")
    assert (found.count, found.paired) == (3, True)
    assert found.mean == pytest.approx(100 / 3)


def test_an_environment_is_the_mean_over_its_episodes_with_its_tasks_beneath(tmp_path: Path) -> None:
    def summarize(records: Sequence[Record]) -> dict[str, Any]:
        sub = {task.split("/")[1]: scores for task, scores in by_task(records)["tasks"].items()}
        environment = in_percent([record.score for record in records]) | {"tasks": sub}
        return overall({"babyai": environment}) | {"not_run": ["nle"]}

    for name, shift in (("before", 0.0), ("after", 0.5)):
        records = [*made("babyai/goto", [0, 0.5]), *made("babyai/open", [shift] * 6)]
        write(tmp_path / name, records, benchmark="balrog", title="BALROG", summarize=summarize)
    comparison = compared(tmp_path / "before", tmp_path / "after")
    assert [(row.name, row.level) for row in comparison.tasks] == [("babyai", 1), ("goto", 2), ("open", 2)]
    assert difference(comparison, "babyai").mean == pytest.approx(100 * 0.5 * 6 / 8)
    assert difference(comparison, "goto").mean == 0
    assert difference(comparison, "open").mean == pytest.approx(50)
    assert comparison.overall.difference == difference(comparison, "babyai")
    assert comparison.short
    assert comparison.notes == ("Not run: nle; the overall score is the mean of the others.",)


def test_questions_that_could_not_be_put_are_told(tmp_path: Path) -> None:
    lost = made("a", [0], details={"unanswered": "no video; download it"})
    write(tmp_path / "before", [*lost, *made("b", [1, 0])])
    write(tmp_path / "after", [*made("a", [1]), *made("b", [1, 0])])
    assert compared(tmp_path / "before", tmp_path / "after").notes == (
        "Questions that could not be put, because a picture or video cannot be read: 1 before, 0 after; they count as "
        "wrong.",
    )


def test_one_record_of_a_part_says_nothing_of_its_error(tmp_path: Path) -> None:
    for side, reward in (("before", 1 / 22), ("after", 2 / 22)):
        records = [*made("babyai", [0, 0.5, 1, 0, 0.5, 1]), *made("crafter", [reward])]
        write(tmp_path / side, records, benchmark="balrog", title="BALROG")
    comparison = compared(tmp_path / "before", tmp_path / "after")
    crafter, overall = difference(comparison, "crafter"), comparison.overall
    assert overall.difference == Difference(about(100 / 44), None, 7, least=1)
    assert crafter == Difference(about(100 / 22), None, 1)
    assert (crafter.interval, overall.difference.interval, overall.difference.clear) == (None, None, False)
    errors = {row.name: row.after and row.after.standard_error for row in [*comparison.tasks, overall]}
    assert errors == {"babyai": about(100 * (1 / 36) ** 0.5), "crafter": None, "BALROG": None}


def test_a_part_of_few_records_does_not_make_a_difference_clear(tmp_path: Path) -> None:
    for few, clear in ((4, False), (5, True)):
        for side, score in (("before", 0), ("after", 1)):
            write(tmp_path / f"{side}{few}", [*made("many", [0.5] * 20), *made("few", [score] * few)])
        found = compared(tmp_path / f"before{few}", tmp_path / f"after{few}").overall.difference
        assert found == Difference(50.0, 0.0, 20 + few, least=few)
        assert found.clear is clear


def test_the_share_of_all_questions_changes_by_the_mean_over_all_questions(tmp_path: Path) -> None:
    def share(records: Sequence[Record]) -> dict[str, Any]:
        return in_percent([record.score for record in records]) | {"tasks": by_task(records)["tasks"]}

    for side, scores in (("before", [0] * 10), ("after", [1] * 10)):
        write(tmp_path / side, [*made("a", [0] * 90), *made("b", scores)], benchmark="erqa", summarize=share)
    comparison = compared(tmp_path / "before", tmp_path / "after")
    assert difference(comparison, "b").mean == 100
    assert comparison.overall.difference == Difference(about(10.0), about(100 * (0.09 / 100) ** 0.5), 100)


def test_only_records_of_both_are_compared_and_the_others_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "before", made("a", [0, 0, 1, 1]))
    write(tmp_path / "after", made("a", [1, 0, 1]))
    comparison = compared(tmp_path / "before", tmp_path / "after")
    assert difference(comparison, "a") == Difference(about(100 / 3), about(100 * (2 / 27) ** 0.5), 3)
    assert comparison.notes == ("Records on one side only: 1; they count in the scores and not in the differences.",)


def test_a_score_that_is_no_mean_of_records_is_not_paired_and_says_so(tmp_path: Path) -> None:
    def summarize(records: Sequence[Record]) -> dict[str, Any]:
        return overall({"a": {"score": 10.0 * len(records), "standard_error": 3.0, "count": len(records)}})

    write(tmp_path / "before", made("a", [0, 0, 1]), summarize=summarize)
    write(tmp_path / "after", made("a", [0, 0, 1, 1]), summarize=summarize)
    comparison = compared(tmp_path / "before", tmp_path / "after")
    assert difference(comparison, "a") == Difference(10.0, about(18**0.5), 3, paired=False)
    assert any(note.startswith("a: the score is not the mean of the records") for note in comparison.notes)


@pytest.mark.parametrize(
    ("mean", "error", "count", "clear"),
    [
        (2.0, 1.0, 6, True),
        (-2.0, 1.0, 6, True),
        (1.9, 1.0, 99, False),
        (2.0, 1.0, 5, False),
        (0.0, 0.0, 9, False),
    ],
)
def test_a_difference_is_marked_where_its_interval_leaves_out_zero(
    mean: float, error: float, count: int, clear: bool
) -> None:
    assert Difference(mean, error, count).clear is clear


def test_another_benchmark_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "before", made("a", [1]), identity={"profile": "short", "data": "x", "seed": 0})
    write(tmp_path / "after", made("a", [1]), identity={"profile": "full", "data": "y", "seed": 0})
    arguments = [str(tmp_path / "before"), str(tmp_path / "after"), "--out", str(tmp_path / "out")]
    assert report_errors(lambda: command.main(arguments)) == 1
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr() == (
        "",
        "error: the two models did not run the same understanding: profile 'short' and 'full', data 'x' and 'y'; "
        "run both with the same data and options\n",
    )


def test_the_printed_lines_stand_in_columns_and_say_what_is_synthetic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("before", "after"):
        write(tmp_path / side, made("a", [1]), synthetic=True)
        write(tmp_path / side, made("b", [1]), benchmark="short", title="Short")
    command.main([str(tmp_path / "before"), str(tmp_path / "after"), "--out", str(tmp_path / "out")])
    *lines, _ = capsys.readouterr().out.splitlines()
    assert [line.partition("+")[0].rstrip() for line in lines] == ["General understanding (synthetic)", "Short"]
    assert len({line.index("+") for line in lines}) == 1


def test_published_data_is_not_compared_with_synthetic_data(tmp_path: Path) -> None:
    write(tmp_path / "before", made("a", [1]), synthetic=True)
    write(tmp_path / "after", made("a", [1]), synthetic=False)
    with pytest.raises(ReportError, match="did not run the same understanding: synthetic True and False"):
        compared(tmp_path / "before", tmp_path / "after")


def test_another_model_is_no_other_benchmark_but_another_precision_is_told(tmp_path: Path) -> None:
    write(tmp_path / "before", made("a", [1]), model={"digest": "x", "max_pixels": 3136})
    write(tmp_path / "after", made("a", [1]), model={"digest": "y", "max_pixels": 200704})
    notes = compared(tmp_path / "before", tmp_path / "after").notes
    assert notes == ("The models did not run under the same conditions: max_pixels 3136 and 200704.",)


def test_benchmarks_of_one_side_are_named_and_shown(tmp_path: Path) -> None:
    for name in ("before", "after"):
        write(tmp_path / name, made("a", [0, 1]))
    write(tmp_path / "before", made("b", [1]), benchmark="vsi_bench", title="VSI-Bench")
    write(tmp_path / "after", made("c", [1]), benchmark="balrog", title="BALROG")
    with Records(tmp_path / "before" / "balrog", {}) as begun:
        begun.add(made("c", [1])[0])
    command.write(tmp_path / "before", tmp_path / "after", tmp_path / "out", ("old", "new"))
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert numbers["notes"] == [
        "Missing for old: BALROG (begun, not finished).",
        "Missing for new: VSI-Bench (not begun).",
    ]
    assert list(numbers["benchmarks"]) == ["understanding", "vsi_bench", "balrog"]
    assert numbers["benchmarks"]["vsi_bench"]["overall"]["after"] is None
    assert numbers["benchmarks"]["vsi_bench"]["overall"]["difference"] is None
    html = (tmp_path / "out" / "report.html").read_text()
    assert all(note in html for note in numbers["notes"])
    assert html.count("not run</td>") == 2 * 3  # in the overview, for the task and for the whole of two benchmarks


def test_models_without_a_benchmark_in_common_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "before", made("a", [1]))
    write(tmp_path / "after", made("a", [1]), benchmark="balrog", title="BALROG")
    with pytest.raises(
        ReportError, match=r"no benchmark was run with both models \(one ran understanding, the other balrog"
    ):
        compare(read(tmp_path / "before"), read(tmp_path / "after"))
    with pytest.raises(ReportError, match="there is no directory"):
        read(tmp_path / "nowhere")
    with pytest.raises(ReportError, match=r"no benchmark in .* is finished"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"id": "x"}', "no 'task'"),
        ("[]", "no object"),
        ("{" * 100_000, "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ('{"id":"x","task":"a","prompt":"","images":[],"answer":"","parsed":null,"score":NaN}', "NaN is not JSON"),
        (
            '{"id":"x","task":"a","prompt":"","images":[],"answer":"","parsed":null,"score":1e999}',
            "where a number must",
        ),
        ('{"id":"x","task":"a","prompt":"","images":[],"answer":"","parsed":null,"score":1.5}', "from 0 to 1"),
        ('{"id":"x","task":"a","prompt":"","images":[],"answer":"","parsed":[],"score":1}', "wrong type"),
        ('{"id":"x","task":"a","prompt":"","images":[3],"answer":"","parsed":"","score":1}', "wrong type"),
        ('{"id":"x","task":"a","prompt":"","images":null,"answer":"","parsed":"","score":1}', "wrong type"),
        ('{"id":"x","task":"a","prompt":"","images":5,"answer":"","parsed":"","score":1}', "wrong type"),
        (
            '{"id":"x","task":"a","prompt":"","images":[],"answer":"","parsed":"","score":1' + "0" * 400 + "}",
            "too large",
        ),
        (
            '{"id":"a-0","task":"a","prompt":"","images":[],"answer":"","parsed":"","score":1}',
            "a second record of 'a-0'",
        ),
    ],
)
def test_a_bad_line_of_records_is_named_in_one_line(tmp_path: Path, line: str, fault: str) -> None:
    write(tmp_path, made("a", [1]))
    with (tmp_path / "understanding" / "records.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(
        ReportError, match=rf"records\.jsonl, line 2 is not as a benchmark writes it \(.*{fault}"
    ) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"score": "1"},
        {"score": 10**400},
        {"benchmark": "balrog"},
        {"tasks": []},
        {"count": -1},
        {"identity": 1},
        {"metrics": {"x": None}},
    ],
)
def test_a_bad_summary_is_named_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path, made("a", [1]))
    path = tmp_path / "understanding" / "summary.json"
    write_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(ReportError, match=r"summary\.json is not as a benchmark writes it"):
        read(tmp_path)


def test_the_records_that_changed_most_are_shown_and_tasks_take_turns(tmp_path: Path) -> None:
    write(tmp_path / "before", [*made("a", [0] * 30), *made("b", [1] * 30), *made("c", [0.5, 0.5])])
    write(tmp_path / "after", [*made("a", [1] * 30), *made("b", [1] * 27 + [0] * 3), *made("c", [0.75, 0.5])])
    comparison = compared(tmp_path / "before", tmp_path / "after")
    ids = [change.before.id for change in comparison.changes]
    assert ids[:7] == ["a-0", "b-27", "a-1", "b-28", "a-2", "b-29", "a-3"]
    assert len(ids) == MOST_CHANGES
    assert "c-0" not in ids
    assert (comparison.ups, comparison.downs) == (31, 3)


def test_published_scores_are_found_by_benchmark_task_and_protocol() -> None:
    assert [(p.before, p.before_error, p.after, p.after_error) for p in find("balrog", None, {"agent": "cot"})] == [
        (3.94, 0.98, 6.02, 1.19)
    ]
    assert [(p.before, p.after) for p in find("balrog", None, {"agent": "naive"})] == [(3.21, 4.19)]
    assert not find("balrog", None, {})
    assert not find("balrog", "nle", {"agent": "cot"})
    assert [(p.before, p.after) for p in find("vsi_bench", "object_rel_direction", {})] == [(32.01, 33.05)]
    assert [p.after for p in find("lmms_eval", "erqa", {})] == [39.00, 39.25]
    assert [p.after for p in find("erqa", None, {})] == [39.00, 39.25]
    assert [p.after for p in find("lmms_eval", "gqa", {})] == [None]
    web_scores = {p.task: (p.before, p.after) for p in PUBLISHED if p.benchmark == "visual_web_bench"}
    assert len(web_scores) == 7
    assert web_scores["action_prediction"] == (4.98, 5.34)
    assert web_scores["webqa"] == (71.44, 70.32)
