"""The benchmarks of two models side by side: one page, one figure, one file of numbers.

    vldac report scores/base scores/trained --out report --names "base model" "trained model"

Each directory holds a folder for each benchmark, as `python -m benchmarks --out DIR/NAME` writes them. Makes
report.html, which needs no other file, report.png and report.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import figure, page
from benchmarks.report.data import MAX_NAME, BenchmarkRun, read, unfinished
from benchmarks.report.differences import Comparison, Row, compare
from vldac.utils.errors import report_errors
from vldac.utils.files import write_json


def write(before: Path, after: Path, out: Path, names: tuple[str, str]) -> list[Comparison]:
    """Compares what two directories hold and writes report.html, report.png and report.json into `out`.

    Raises:
        ReportError: a directory is not as benchmarks write it, or the two models did not run the same benchmarks.
        OSError: a file cannot be read or written.
    """
    names = (names[0][:MAX_NAME], names[1][:MAX_NAME])
    benchmark_runs = read(before), read(after)
    comparisons = compare(*benchmark_runs)
    notes = missing(benchmark_runs, (unfinished(before), unfinished(after)), names)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.html").write_text(page.page(comparisons, names, notes), encoding="utf-8")
    figure.draw(out / "report.png", comparisons, names)
    write_json(out / "report.json", numbers(comparisons, names, notes))
    return comparisons


def missing(
    benchmark_runs: tuple[Mapping[str, BenchmarkRun], Mapping[str, BenchmarkRun]],
    begun: tuple[Sequence[str], Sequence[str]],
    names: tuple[str, str],
) -> list[str]:
    """A sentence for each model that lacks benchmarks which the other one ran."""
    sentences = []
    for here, there, unfinished_here, name in zip(benchmark_runs, reversed(benchmark_runs), begun, names, strict=True):
        lacking = [
            f"{benchmark_run.title} ({'begun, not finished' if benchmark in unfinished_here else 'not begun'})"
            for benchmark, benchmark_run in there.items()
            if benchmark not in here
        ]
        if lacking:
            sentences.append(f"Missing for {name}: {', '.join(lacking)}.")
    return sentences


def numbers(comparisons: Sequence[Comparison], names: tuple[str, str], notes: Sequence[str]) -> dict[str, Any]:
    """All numbers of the report as JSON; scores are percent, intervals 95%."""
    return {
        "names": list(names),
        "notes": list(notes),
        "benchmarks": {
            comparison.benchmark: {
                "title": comparison.title,
                "overall": _numbers(comparison.overall, comparison),
                "tasks": [_numbers(row, comparison) for row in comparison.tasks],
                "changed": {"up": comparison.ups, "down": comparison.downs},
                "notes": list(comparison.notes),
                "identity": dict(comparison.identity),
            }
            for comparison in comparisons
        },
    }


def _numbers(row: Row, comparison: Comparison) -> dict[str, Any]:
    difference = row.difference
    return {
        "name": row.name,
        "level": row.level,
        "synthetic": comparison.synthetic,
        "short": comparison.short,
        **{
            side: scores
            and {
                "score": scores.score,
                "standard_error": scores.standard_error,
                "count": scores.count,
                "metrics": dict(scores.metrics),
            }
            for side, scores in (("before", row.before), ("after", row.after))
        },
        "difference": difference
        and {**asdict(difference), "interval": difference.interval, "leaves_out_0": difference.clear},
        "published": [asdict(entry) for entry in row.published],
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="vldac report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("before", type=Path, help="directory with the benchmarks of the one model")
    made.add_argument("after", type=Path, help="directory with the benchmarks of the other")
    made.add_argument("--out", type=Path, required=True, help="directory for the report")
    made.add_argument("--names", nargs=2, default=("base model", "trained model"), metavar=("BEFORE", "AFTER"))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    options = parser().parse_args(arguments)
    comparisons = write(options.before, options.after, options.out, tuple(options.names))
    titles = [f"{one.title} (synthetic)" if one.synthetic else one.title for one in comparisons]
    width = max(map(len, titles), default=0)
    for title, comparison in zip(titles, comparisons, strict=True):
        difference = comparison.overall.difference
        told = "on one side only"
        if difference:
            ends = "unknown" if difference.interval is None else "{:+.2f}, {:+.2f}".format(*difference.interval)
            told = f"{difference.mean:+.2f} [{ends}], n={difference.count}"
        print(f"{title:<{width}}  {told}")
    print(f"open {options.out / 'report.html'} in a browser; report.png is for a slide, report.json for a program")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
