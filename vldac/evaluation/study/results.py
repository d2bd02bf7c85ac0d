"""The lines of results of a study, read back and selected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vldac.evaluation.study.records import read_lines
from vldac.utils.errors import UserError

#: By environment, the scores of seeds.
Scores = dict[str, list[float]]
#: By name, lines of results.
Groups = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Results:
    """A study's results.

    Attributes:
        study: the study, as it was written.
        planned: cells of it.
        command: that ran it.
        lines: a line a cell that has finished.
    """

    study: Mapping[str, Any]
    planned: int
    command: str
    lines: Sequence[Mapping[str, Any]]

    @property
    def environments(self) -> list[str]:
        """Those with results, in the order of the study."""
        return list(dict.fromkeys(line["environment"] for line in self.lines))

    @property
    def algorithms(self) -> list[str]:
        """Those with results of the comparison itself, in the order of the study."""
        return list(dict.fromkeys(line["algorithm"] for line in self.select("main")))

    @property
    def reference(self) -> str:
        """The algorithm that the others are compared with: vldac, or the first."""
        return "vldac" if "vldac" in self.algorithms else self.algorithms[0]

    def select(self, kind: str, algorithm: str | None = None, variant: str | None = None) -> list[Mapping[str, Any]]:
        """The lines of some cells; None takes all."""
        return [
            line
            for line in self.lines
            if line["kind"] == kind and algorithm in (None, line["algorithm"]) and variant in (None, line["variant"])
        ]


def read(directory: Path) -> Results:
    """Reads the results of a study.

    Raises:
        UserError: they are missing or damaged, or no cell has finished.
    """
    lines = read_lines(directory / "cells.jsonl")
    try:
        about = json.loads((directory / "study.json").read_text(encoding="utf-8"))
        results = Results(about["study"], about["cells"], about["command"], lines)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{directory / 'study.json'} cannot be read ({error}); run the study again") from None
    if not results.select("main"):
        raise UserError(f"{directory}: no cell of the comparison has finished yet; run the study to its end")
    return results


def scores(lines: Iterable[Mapping[str, Any]]) -> Scores:
    """Success of the trained policies on unseen episodes, by environment."""
    found: Scores = {}
    for line in lines:
        found.setdefault(line["environment"], []).append(line["trained"]["success"])
    return found


def arrays(of: Scores, environments: Sequence[str]) -> list[NDArray[np.float64]]:
    """The scores of some environments, as `vldac.evaluation.aggregation` takes them."""
    return [np.array(of[name]) for name in environments]


def shared(a: Scores, b: Scores) -> list[str]:
    """The environments in which both have scores."""
    return [name for name in a if name in b]


def ablations(results: Results) -> list[tuple[str, str]]:
    """Algorithm and name of each ablation."""
    return list(dict.fromkeys((line["algorithm"], line["variant"]) for line in results.select("ablation")))


def of_algorithms(results: Results) -> Groups:
    """The lines of the comparison itself, by algorithm."""
    return {algorithm: results.select("main", algorithm) for algorithm in results.algorithms}


def of_ablations(results: Results) -> Groups:
    """The lines of ablations by their names, after those of the algorithms that they change."""
    named = ablations(results)
    return {algorithm: results.select("main", algorithm) for algorithm, _ in named} | {
        f"{algorithm}, {name}": results.select("ablation", algorithm, name) for algorithm, name in named
    }


def grid(results: Results) -> dict[tuple[str, str], dict[str, float]]:
    """By algorithm and environment, the mean success of the seeds of each point."""
    points: dict[tuple[str, str], dict[str, list[float]]] = {}
    for line in results.select("grid"):
        of = points.setdefault((line["algorithm"], line["environment"]), {})
        of.setdefault(line["variant"], []).append(line["trained"]["success"])
    return {key: {point: float(np.mean(values)) for point, values in of.items()} for key, of in points.items()}
