"""What changed between two models, question by question.

Errors of a task are those of its paired differences; tasks are independent of each other. Intervals are mean +- 1.96
standard errors, and unknown where the score is a mean of parts one of which has a single record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.records import Record
from benchmarks.report.data import BenchmarkRun, ReportError, Scores
from benchmarks.report.published import Published, find
from vldac.evaluation.statistics import LEAST_OF_PART, LEAST_RECORDS, Z95, mean_and_error, paired_difference

#: The records that are shown of a benchmark.
MOST_CHANGES = 20


@dataclass(frozen=True)
class Difference:
    """After minus before, in percent.

    Attributes:
        mean: of the differences.
        standard_error: of the mean; None where a single record leaves it unknown.
        count: of the records that both models have.
        paired: False where the score of a task is not the mean of its records, so that only the two scores could be
            subtracted and their errors taken as independent.
        least: records of the smallest part, where this is the mean of parts.
    """

    mean: float
    standard_error: float | None
    count: int
    paired: bool = True
    least: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval, None where it is unknown."""
        if self.standard_error is None:
            return None
        return self.mean - Z95 * self.standard_error, self.mean + Z95 * self.standard_error

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0, and there are records enough, of each part too, to mean something."""
        if self.interval is None or self.count < LEAST_RECORDS:
            return False
        low, high = self.interval
        return (self.least is None or self.least >= LEAST_OF_PART) and (low > 0 or high < 0)


@dataclass(frozen=True)
class Row:
    """A benchmark or a task, before and after.

    Attributes:
        name: of the benchmark or the task.
        level: 0 for a benchmark, 1 for its tasks, 2 for theirs.
        before: None where it was not run.
        after: None where it was not run.
        difference: None where it was run on one side only.
        published: scores of the paper about the same.
    """

    name: str
    level: int
    before: Scores | None
    after: Scores | None
    difference: Difference | None
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Change:
    """One record of both models; `after.score` differs from `before.score`."""

    before: Record
    after: Record


@dataclass(frozen=True)
class Comparison:
    """One benchmark of two models.

    Attributes:
        benchmark: its name.
        title: its name as people write it.
        synthetic: whether its data only resembles the published data.
        short: whether only a part of it was run.
        overall: the benchmark as a whole.
        tasks: in their order, each followed by those beneath it.
        changes: the records whose score changed most.
        ups: records whose score rose.
        downs: records whose score fell.
        notes: what a reader must know, in sentences.
        identity: all that decides the records besides the model.
        models: what is known of the two models.
    """

    benchmark: str
    title: str
    synthetic: bool
    short: bool
    overall: Row
    tasks: tuple[Row, ...]
    changes: tuple[Change, ...] = ()
    ups: int = 0
    downs: int = 0
    notes: tuple[str, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})


def compare(before: Mapping[str, BenchmarkRun], after: Mapping[str, BenchmarkRun]) -> list[Comparison]:
    """All benchmarks of two models; a benchmark that only one of them ran has no differences.

    Raises:
        ReportError: a benchmark is not the same on both sides, or no benchmark is on both.
    """
    if not before.keys() & after.keys():
        raise ReportError(
            f"no benchmark was run with both models (one ran {', '.join(before)}, the other {', '.join(after)}); "
            "run the same benchmarks with both"
        )
    order = [*before, *(name for name in after if name not in before)]
    return [compare_benchmark(before.get(name), after.get(name)) for name in order]


def compare_benchmark(before: BenchmarkRun | None, after: BenchmarkRun | None) -> Comparison:
    """One benchmark of two models, or of the one that ran it.

    Raises:
        ReportError: the two are not the same benchmark.
    """
    some = before or after
    assert some is not None
    one, two = before.scores if before else None, after.scores if after else None
    overall, notes, changed = None, list[str](), list[Change]()
    if before and after:
        _check_same(before, after)
    rows = [row for name in _tasks(one, two) for row in _task_rows(name, before, after)]
    if before and after:
        overall = _overall(before, after, rows)
        notes, changed = _notes(before, after, rows), _changed(before, after)
    return Comparison(
        benchmark=some.benchmark,
        title=some.title,
        synthetic=some.synthetic,
        short=some.short,
        overall=Row(some.title, 0, one, two, overall, tuple(find(some.benchmark, None, some.identity))),
        tasks=tuple(rows),
        changes=tuple(_most_changed(changed)),
        ups=sum(change.after.score > change.before.score for change in changed),
        downs=sum(change.after.score < change.before.score for change in changed),
        notes=tuple(notes),
        identity=some.identity,
        models=(before.model if before else {}, after.model if after else {}),
    )


def _overall(before: BenchmarkRun, after: BenchmarkRun, rows: Sequence[Row]) -> Difference | None:
    """Of a benchmark: the mean over the tasks of both, unless its score is the mean over all records instead."""
    if not all(_is_mean_of_tasks(side.scores) for side in (before, after)):
        every = {record.task for side in (before, after) for record in side.records.values()}
        found = _difference(before.scores, after.scores, before, after, [every])
        if found and found.paired:
            return found
    return _mean([row.difference for row in rows if row.level == 1 and row.difference])


def _is_mean_of_tasks(scores: Scores) -> bool:
    found = [task.score for task in scores.tasks.values()]
    return bool(found) and math.isclose(math.fsum(found) / len(found), scores.score, abs_tol=1e-6)


def _tasks(*sides: Scores | None) -> list[str]:
    """The tasks of either side, in their order."""
    return list(dict.fromkeys(name for side in sides if side for name in side.tasks))


def _check_same(before: BenchmarkRun, after: BenchmarkRun) -> None:
    if (before.synthetic, before.identity) == (after.synthetic, after.identity):
        return
    one, two = ({"synthetic": side.synthetic, **side.identity} for side in (before, after))
    keys = [key for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)] or ["synthetic"]
    told = ", ".join(f"{key} {one.get(key)!r:.40} and {two.get(key)!r:.40}" for key in keys[:4])
    raise ReportError(
        f"the two models did not run the same {before.benchmark}: {told}; run both with the same data and options"
    )


def _task_rows(name: str, before: BenchmarkRun | None, after: BenchmarkRun | None) -> list[Row]:
    """A task and the tasks beneath it."""
    some = before or after
    assert some is not None
    one, two = (side.scores.tasks.get(name) if side else None for side in (before, after))
    beneath = _tasks(one, two)
    # As the benchmarks name them in their records.
    parts = [{name, *beneath, *(f"{name}/{sub}" for sub in beneath)}]
    if (some.benchmark, name) == ("vsi_bench", "object_rel_direction"):
        parts = [{f"{name}_{level}"} for level in ("easy", "medium", "hard")]
    published = tuple(find(some.benchmark, name, some.identity))
    rows = [Row(name, 1, one, two, _difference(one, two, before, after, parts), published)]
    for sub in beneath:
        inner_one, inner_two = (side.tasks.get(sub) if side else None for side in (one, two))
        difference = _difference(inner_one, inner_two, before, after, [{sub, f"{name}/{sub}"}])
        rows.append(Row(sub, 2, inner_one, inner_two, difference))
    return rows


def _difference(
    one: Scores | None,
    two: Scores | None,
    before: BenchmarkRun | None,
    after: BenchmarkRun | None,
    parts: Sequence[set[str]],
) -> Difference | None:
    """Of one task.

    Args:
        one: its scores before.
        two: its scores after.
        before: whose records are compared.
        after: whose records are compared.
        parts: the tasks that its records name; the score is the mean of the parts' means.
    """
    if one is None or two is None or before is None or after is None:
        return None
    records = [(_counted(before, tasks), _counted(after, tasks)) for tasks in parts]
    if not (_makes_up([left for left, _ in records], one) and _makes_up([right for _, right in records], two)):
        return _unpaired(one, two)
    differences = []
    for left, right in records:
        shared = [key for key in left if key in right]
        if not shared:
            return _unpaired(one, two)
        mean, error = paired_difference([left[key] for key in shared], [right[key] for key in shared])
        differences.append(Difference(100 * mean, 100 * error if len(shared) > 1 else None, len(shared)))
    return _mean(differences)


def _unpaired(one: Scores, two: Scores) -> Difference:
    known = [side.standard_error for side in (one, two) if side.standard_error is not None]
    error = math.hypot(*known) if len(known) == 2 else None
    return Difference(two.score - one.score, error, min(one.count, two.count), paired=False)


def _makes_up(parts: Sequence[Mapping[str, float]], scores: Scores) -> bool:
    """Whether a score is the mean of the parts' means."""
    if not all(parts):
        return False
    mean = math.fsum(mean_and_error(list(part.values()))[0] for part in parts) / len(parts)
    return math.isclose(100 * mean, scores.score, abs_tol=1e-6)


def _counted(benchmark_run: BenchmarkRun, tasks: set[str]) -> dict[str, float]:
    """The scores of the records that count for a task, by id."""
    of_task = {key: record for key, record in benchmark_run.records.items() if record.task in tasks}
    if benchmark_run.benchmark == "visual_web_bench" and tasks == {"webqa"}:
        # As the benchmark's own summary: questions without `f1` are left out of the mean, unless none would be left.
        of_task = {key: record for key, record in of_task.items() if "f1" in record.metrics} or of_task
    return {key: record.score for key, record in of_task.items()}


def _mean(differences: Sequence[Difference]) -> Difference | None:
    """The unweighted mean, whose parts have independent errors."""
    if len(differences) < 2:
        return differences[0] if differences else None
    k = len(differences)
    errors = [difference.standard_error for difference in differences]
    known = [error for error in errors if error is not None]
    return Difference(
        mean=math.fsum(difference.mean for difference in differences) / k,
        standard_error=math.hypot(*known) / k if len(known) == k else None,
        count=sum(difference.count for difference in differences),
        paired=all(difference.paired for difference in differences),
        least=min(difference.count if difference.least is None else difference.least for difference in differences),
    )


def _notes(before: BenchmarkRun, after: BenchmarkRun, rows: Sequence[Row]) -> list[str]:
    notes = []
    if after.left_out:
        notes.append(f"Not run: {', '.join(after.left_out)}; the overall score is the mean of the others.")
    if alone := [row.name for row in rows if row.level == 1 and not row.difference]:
        notes.append(
            f"{', '.join(alone)}: on one side only, so the overall scores are means of different tasks; the overall "
            "difference is that of the tasks that both have."
        )
    if lost := len(before.records.keys() ^ after.records.keys()):
        notes.append(f"Records on one side only: {lost}; they count in the scores and not in the differences.")
    if loose := [row.name for row in rows if row.difference and not row.difference.paired]:
        notes.append(
            f"{', '.join(loose)}: the score is not the mean of the records, so the errors of both sides are taken as "
            "independent, and the interval is wider than a paired one."
        )
    unanswered = [sum(record.unanswered for record in side.records.values()) for side in (before, after)]
    if any(unanswered):
        notes.append(
            f"Questions that could not be put, because a picture or video cannot be read: {unanswered[0]} before, "
            f"{unanswered[1]} after; they count as wrong."
        )
    one, two = before.model, after.model
    for key in sorted((one.keys() & two.keys()) - {"digest"}):
        if one[key] != two[key]:
            notes.append(
                f"The models did not run under the same conditions: {key} {one[key]!r:.40} and {two[key]!r:.40}."
            )
    return notes


def _changed(before: BenchmarkRun, after: BenchmarkRun) -> list[Change]:
    pairs = ((record, after.records.get(key)) for key, record in before.records.items())
    return [Change(one, two) for one, two in pairs if two and one.score != two.score]


def _most_changed(changes: Sequence[Change]) -> list[Change]:
    """Those that changed most; equal ones take turns by task and direction, so that no task fills the list."""
    seen: dict[tuple[Any, ...], int] = {}
    ranked = []
    for place, change in enumerate(changes):
        step = change.after.score - change.before.score
        kind = (change.before.task, round(step, 9))
        seen[kind] = seen.get(kind, 0) + 1
        ranked.append((-round(abs(step), 9), seen[kind], place))
    return [changes[place] for _, _, place in sorted(ranked)[:MOST_CHANGES]]
