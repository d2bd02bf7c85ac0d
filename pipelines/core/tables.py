"""What a person reads at the end: who scored what, in a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

#: The rows of the comparison: key of metrics/summary.json, name.
POLICIES = (("random", "random policy"), ("base", "base model"), ("trained", "trained model"))
COLUMNS = ("", "success [95% interval]", "return", "steps to goal", "episodes")


def rows(summary: Mapping[str, Any], *, warm_started: bool) -> list[tuple[str, ...]]:
    """The comparison as text cells, one row a policy in `COLUMNS`' order.

    Args:
        summary: metrics/summary.json.
        warm_started: the base model was built here; its warm start taught it to see and to answer, not to act.
    """
    table: list[tuple[str, ...]] = []
    for key, name in POLICIES:
        score = summary[key]
        low, high = score["success_ci"]
        label = f"{name} (sees, acts at random)" if key == "base" and warm_started else name
        table.append(
            (
                label,
                f"{score['success']:.3f} [{low:.3f}, {high:.3f}]",
                _number(score["return"], ".3f"),
                _number(score["steps_to_goal"], ".1f"),
                str(score["episodes"]),
            )
        )
    return table


def _number(value: float | None, form: str) -> str:
    """A dash where there is no value: steps to a goal that was never reached."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def text(summary: Mapping[str, Any], *, warm_started: bool) -> str:
    """The comparison for a terminal of 80 columns."""
    title = f"{summary.get('env', '')}, seed {summary.get('seed', '')}, on seeds that training never saw"
    lines = [title, aligned([COLUMNS, *rows(summary, warm_started=False)])]
    if warm_started:
        lines.append("The base model was built here; it sees and answers, and acts at random.")
    return "\n".join(lines)


def markdown(summary: Mapping[str, Any], *, warm_started: bool) -> str:
    """The comparison for a page."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---:|---:|---:|---:|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows(summary, warm_started=warm_started)]
    return "\n".join(lines)


def benchmark_rows(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, str]]:
    """The rows of a table of benchmarks: a row a benchmark, a column a model, scores in percent with standard errors.

    Args:
        results: by model, the summaries of its benchmarks.
    """
    rows: dict[str, dict[str, str]] = {}
    for model, summaries in results.items():
        for summary in summaries:
            title = summary["title"] + (" (synthetic)" if summary["synthetic"] else "")
            row = rows.setdefault(title, {"benchmark": title})
            row[model] = f"{summary['score']:.2f} ± {summary['standard_error']:.2f}"
            row["records"] = str(summary["count"])
    return list(rows.values())


def benchmark_text(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The benchmarks for a terminal; see `benchmark_rows`."""
    columns = {
        "benchmark": "benchmarks, in percent",
        **{model: f"{model} model" for model in results},
        "records": "records",
    }
    table = [tuple(columns.values()), *(tuple(row.get(key, "-") for key in columns) for row in benchmark_rows(results))]
    return aligned(table)


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table]
    return "\n".join(line.rstrip() for line in lines)
