"""Stage `report`: the benchmarks of base and trained model side by side, as a page, a picture and two tables."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.scores import known_error
from pipelines.core import errors
from pipelines.stages.common import arguments, require, run_module
from pipelines.tracking import benchmark_scores
from vldac.utils.files import write_json

_COLUMNS = ("benchmark", "model", "score", "low", "high", "records", "synthetic")
_Z95 = 1.959963984540054


def main(argv: Sequence[str] | None = None) -> int:
    """Writes scores/report/, plots/benchmarks.png, plots/benchmarks.csv and metrics/benchmarks.json."""
    root: Path = arguments(argv, __doc__).root
    out = root / "scores/report"
    if out.exists():
        shutil.rmtree(out)
    run_module(
        "benchmarks.report",
        *(
            root / benchmark_scores.HOMES["base"],
            root / benchmark_scores.HOMES["trained"],
            "--out",
            out,
            "--names",
            "base model",
            "trained model",
        ),
        root=root,
        env=os.environ,
    )
    (root / "plots").mkdir(exist_ok=True)
    shutil.copyfile(require(out / "report.png"), root / "plots/benchmarks.png")
    summaries = {model: benchmark_scores.summaries(root / home) for model, home in benchmark_scores.HOMES.items()}
    write_json(root / "metrics/benchmarks.json", headline(summaries["trained"]))
    with (root / "plots/benchmarks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows(summaries))
    return 0


def headline(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """One number a benchmark, in percent, by which experiments are compared in a table."""
    return {name: round(float(summary["score"]), 3) for name, summary in summaries.items()}


def rows(summaries: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Scores with their 95% intervals, in percent, a line a benchmark and model."""
    for model, found in summaries.items():
        for name, summary in found.items():
            half = _Z95 * (known_error(summary) or 0.0)
            yield {
                "benchmark": name,
                "model": model,
                "score": summary["score"],
                "low": max(0.0, summary["score"] - half),
                "high": min(100.0, summary["score"] + half),
                "records": summary["count"],
                "synthetic": str(summary["synthetic"]).lower(),
            }


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
