"""What a person reads at the end: who scored what, in a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.scores import plus_minus

#: The rows of the comparison: key of metrics/summary.json, name.
POLICIES = (("random", "random policy"), ("base", "base model"), ("trained", "trained model"))
COLUMNS = ("", "success [95% interval]", "return", "steps to goal", "episodes")


def base_acts(params: Mapping[str, Any]) -> str:
    """How a base model that is built here has been taught to act; nothing of any other.

    Args:
        params: of a run, of this version of the project or an older one, as in params.yaml.
    """
    if params["model"]["base"] != "tiny":
        return ""
    own = params.get("warm_start", {})
    taught = any(part.get("expert_actions") for part in own.get("mixture") or [own])
    return "has been taught some actions of an expert" if taught else "acts at random"


def rows(summary: Mapping[str, Any], *, acts: str) -> list[tuple[str, ...]]:
    """The comparison as text cells, one row a policy in `COLUMNS`' order.

    Args:
        summary: metrics/summary.json.
        acts: see `base_acts`.
    """
    table: list[tuple[str, ...]] = []
    for key, name in POLICIES:
        score = summary[key]
        low, high = score["success_ci"]
        label = f"{name} (sees, {acts})" if key == "base" and acts else name
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


def text(summary: Mapping[str, Any], *, acts: str) -> str:
    """The comparison for a terminal of 80 columns."""
    title = f"{summary.get('env', '')}, seed {summary.get('seed', '')}, on seeds that training never saw"
    lines = [title, aligned([COLUMNS, *rows(summary, acts="")])]
    if acts:
        lines.append(f"The base model was built here; it sees and answers, and {acts}.")
    return "\n".join(lines)


def markdown(summary: Mapping[str, Any], *, acts: str) -> str:
    """The comparison for a page."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---:|---:|---:|---:|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows(summary, acts=acts)]
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
            row[model] = plus_minus(summary, "±").strip()
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
