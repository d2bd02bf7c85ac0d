"""A benchmark run: records that are on disk already are kept, the others are made, and the summary is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.records import SUMMARY, Records
from benchmarks.harness.task import Benchmark, Runner
from vldac.utils.files import write_json


def run_benchmark(
    benchmark: Benchmark,
    runner: Runner,
    out: Path,
    model: Mapping[str, Any],
    *,
    inputs: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Benchmarks a model, or resumes where a killed benchmark of the same model stopped.

    Args:
        benchmark: with its options.
        runner: the model.
        out: takes benchmark.json, records.jsonl and summary.json.
        model: what distinguishes this model and its picture limits from others, as JSON.
        inputs: hash of whatever else decides the records, such as the code.
        overwrite: remove what `out` holds of another benchmark, model or inputs, instead of raising.

    Returns:
        What summary.json holds: see `Benchmark.summarize`, with the benchmark's name, whether its data is synthetic,
        and its identity; where questions could not be put, `unanswered` is their number, and each counts as wrong.

    Raises:
        OtherBenchmarkError: `out` holds another benchmark, another model's, or one of other inputs.
        RecordsError: another process writes to `out`, or something in it is no record.
    """
    identity = {
        "benchmark": benchmark.name,
        "profile": benchmark.profile,
        "limit": benchmark.options.limit,
        "max_pixels": benchmark.options.max_pixels,
        "min_pixels": benchmark.options.min_pixels,
        **benchmark.identity(),
    }
    decides = {"model": dict(model)} | ({} if inputs is None else {"inputs": inputs})
    with Records(out, {**identity, **decides}, overwrite=overwrite) as records:
        benchmark.run(runner, records)
        scores = benchmark.summarize(list(records))
        summary = {
            "benchmark": benchmark.name,
            "title": benchmark.title,
            "synthetic": benchmark.synthetic,
            **scores,
            "identity": identity,
        }
        if unanswered := sum(record.unanswered for record in records):
            summary["unanswered"] = unanswered
        write_json(out / SUMMARY, summary)
    return summary
