"""Scores in percent with their standard errors, as summaries hold them and as they are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vldac.evaluation.statistics import mean_and_error


def in_percent(scores: Sequence[float]) -> dict[str, Any]:
    """Mean, its standard error and the count of scores in [0, 1], in percent."""
    mean, error = mean_and_error(scores)
    return {"score": 100 * mean, "standard_error": 100 * error, "count": len(scores)}


def known_error(scores: Mapping[str, Any]) -> float | None:
    """The standard error of scores such as `in_percent` and `overall` make, None where it cannot be known.

    One record does not tell how much records differ: there, and in a mean of tasks one of which has a single record,
    the number of a summary is what BALROG's formula gives, and no error.
    """
    error: float = scores["standard_error"]
    tasks = scores.get("tasks", {})
    of_tasks = bool(tasks) and math.isclose(error, overall(tasks)["standard_error"], abs_tol=1e-9)
    if scores["count"] == 1 or (of_tasks and any(known_error(task) is None for task in tasks.values())):
        return None
    return error


def plus_minus(scores: Mapping[str, Any], sign: str = "+-") -> str:
    """A score and its standard error on a line of text."""
    error = known_error(scores)
    return f"{scores['score']:6.2f} {sign} {'unknown' if error is None else f'{error:.2f}'}"


def overall(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The unweighted mean of tasks, whose errors are independent, and the tasks."""
    k = len(tasks)
    return {
        "score": sum(task["score"] for task in tasks.values()) / k,
        "standard_error": sum(task["standard_error"] ** 2 for task in tasks.values()) ** 0.5 / k,
        "count": sum(task["count"] for task in tasks.values()),
        "tasks": dict(tasks),
    }
