"""What carries over: policies trained in one environment and evaluated in others, beside the base model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vldac.evaluation.statistics import LEAST_OF_PART, LEAST_RECORDS, Z95, difference_interval, wilson_interval
from vldac.evaluation.study.results import Results


@dataclass(frozen=True)
class Carried:
    """One exam, an environment or a benchmark, of the policies that were trained in one environment.

    Attributes:
        base: success of the base model, or its score as a share of the best one.
        base_interval: 95%; None where a benchmark with a task of a single question leaves it unknown.
        trained: the same of the trained policies, over all their seeds.
        count: of episodes or questions of the base model, and of all trained policies.
        difference: success gained, or lost.
        interval: 95%, of the difference; None as that of the base model.
        own: whether the exam is the environment that they were trained in.
        least: questions of the smallest task, of a benchmark whose score is the mean of tasks.
    """

    base: float
    base_interval: tuple[float, float] | None
    trained: float
    count: tuple[int, int]
    difference: float
    interval: tuple[float, float] | None
    own: bool
    least: int | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out, and there is enough, of each task too, for that to mean something."""
        if self.interval is None or min(self.count) < LEAST_RECORDS:
            return False
        low, high = self.interval
        return (self.least is None or self.least >= LEAST_OF_PART) and not low <= 0 <= high


def exams(results: Results) -> list[str]:
    """The exams that were taken, in the order of the study: environments, then benchmarks."""
    kinds = ("exams", "benchmarks")
    return list(dict.fromkeys(name for kind in kinds for line in results.lines for name in line.get(kind, {})))


def _examined(line: Mapping[str, Any]) -> bool:
    return bool(line.get("exams") or line.get("benchmarks"))


def matrix(results: Results) -> dict[str, dict[str, Carried]]:
    """By what was trained and by exam.

    A row is named after the environment, with the algorithm where there are several, and the ablation.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in results.lines:
        if _examined(line):
            algorithm = line["algorithm"] if len(results.algorithms) > 1 else ""
            name = ", ".join(filter(None, (line["environment"], algorithm, line["variant"])))
            found.setdefault(name, []).append(line)
    several = bool(results.study.get("base_per_seed", False))
    return {
        name: {exam: _carried(lines, exam, several_bases=several) for exam in lines[0].get("exams", {})}
        | {benchmark: _of_benchmark(lines, benchmark) for benchmark in lines[0].get("benchmarks", {})}
        for name, lines in found.items()
    }


def _of_benchmark(lines: Sequence[Mapping[str, Any]], benchmark: str) -> Carried:
    """The mean over seeds, whose errors count as if they were one: they are put the same questions."""
    found = [line["benchmarks"][benchmark] for line in lines]

    def share(part: str, key: str) -> float:
        return math.fsum(each[part][key] for each in found) / len(found) / 100

    def around(value: float, part: str) -> tuple[float, float] | None:
        if any(each[part]["standard_error"] is None for each in found):
            return None
        error = share(part, "standard_error")
        return value - Z95 * error, value + Z95 * error

    base, trained, difference = share("base", "score"), share("trained", "score"), share("difference", "mean")
    ends = around(base, "base")
    least = [of["least"] for each in found if (of := each["difference"]).get("least") is not None]
    return Carried(
        base,
        ends and (max(0.0, ends[0]), min(1.0, ends[1])),
        trained,
        (found[0]["base"]["count"], sum(each["trained"]["count"] for each in found)),
        difference,
        around(difference, "difference"),
        own=False,
        least=min(least, default=None),
    )


def _carried(lines: Sequence[Mapping[str, Any]], exam: str, *, several_bases: bool) -> Carried:
    """The episodes of all seeds together; a base model that the seeds share counts once."""
    bases = lines if several_bases else lines[:1]
    before = successes([line["exams"][exam]["base"] for line in bases])
    after = successes([line["exams"][exam]["trained"] for line in lines])
    return Carried(
        before[0] / before[1],
        wilson_interval(*before),
        after[0] / after[1],
        (before[1], after[1]),
        after[0] / after[1] - before[0] / before[1],
        difference_interval(before, after),
        own=exam == lines[0]["environment"],
    )


def successes(scores: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Episodes that succeeded, and all episodes, of several evaluations together."""
    return sum(round(score["success"] * score["episodes"]) for score in scores), sum(s["episodes"] for s in scores)


def rows(results: Results) -> list[list[str]]:
    """The table: the random policy or a guess, base models, and the trained policies with their differences to them.

    A base model that is that of every trained policy is one row; otherwise each policy has its own above it.
    """
    names, line, of = exams(results), next(line for line in results.lines if _examined(line)), matrix(results)
    guess = ", or a guess" if "benchmarks" in line else ""
    found = [[f"random policy{guess}", *(_random(line, exam) for exam in names)]]
    bases = {name: [_base(row[exam]) if exam in row else "" for exam in names] for name, row in of.items()}
    one = len({tuple(base) for base in bases.values()}) == 1
    if one:
        found.append(["base model", *next(iter(bases.values()))])
    for trained, carried in of.items():
        if not one:
            found.append([f"base model of {trained}", *bases[trained]])
        found.append([f"trained in {trained}", *(_entry(carried[exam]) if exam in carried else "" for exam in names)])
    return found


def _random(line: Mapping[str, Any], exam: str) -> str:
    if exam in line.get("exams", {}):
        score = line["exams"][exam]["random"]
        return _with_interval(score["success"], wilson_interval(*successes([score])))
    chance = line.get("benchmarks", {}).get(exam, {}).get("chance")
    return "" if chance is None else f"{chance / 100:.2f}"


def _base(carried: Carried) -> str:
    return _with_interval(carried.base, carried.base_interval)


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.2f} [{_ends(interval, '.2f')}]"


def _ends(interval: tuple[float, float] | None, form: str) -> str:
    return "unknown" if interval is None else ", ".join(format(end, form) for end in interval)


def _entry(carried: Carried) -> str:
    shown = f"{carried.trained:.2f} ({carried.difference:+.2f} [{_ends(carried.interval, '+.2f')}])"
    return f"**{shown}**" if carried.clear else shown


def heat_map(pyplot: Any, results: Results) -> bool:
    """Differences to the base model: blue is gained, red is lost; bold where the interval leaves zero out.

    A frame marks the environment that a policy was trained in.
    """
    found, names = matrix(results), exams(results)
    if not found:
        return False
    differences = np.array([[of[exam].difference if exam in of else np.nan for exam in names] for of in found.values()])
    _, axis = pyplot.subplots(figsize=(1.15 * len(names) + 2.6, 0.75 * len(found) + 1.9))
    image = axis.imshow(differences, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axis.grid(visible=False)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(found)), list(found))
    axis.set(xlabel="evaluated in", ylabel="trained in")
    for row, of in enumerate(found.values()):
        for column, exam in enumerate(names):
            if exam in of:
                _write(axis, column, row, of[exam])
    axis.figure.colorbar(image, ax=axis, label="success or score, trained - base")
    return True


def _write(axis: Any, x: int, y: int, carried: Carried) -> None:
    color = "white" if abs(carried.difference) > 0.6 else "black"
    weight = "bold" if carried.clear else "normal"
    axis.text(x, y - 0.16, f"{carried.difference:+.2f}", ha="center", va="center", color=color, weight=weight)
    ends = "no interval" if carried.interval is None else "{:+.2f} to {:+.2f}".format(*carried.interval)
    axis.text(x, y + 0.2, ends, ha="center", va="center", color=color, fontsize=6.5)
    if carried.own:
        axis.add_patch(_frame(x, y))


def _frame(x: int, y: int) -> Any:
    from matplotlib.patches import Rectangle  # noqa: PLC0415  # heavy, and only reports draw

    return Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, edgecolor="black", linewidth=1.5)
