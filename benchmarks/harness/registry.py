"""The benchmarks by name, and how one is sat."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.records import SUMMARY, Records
from benchmarks.harness.task import Benchmark, Runner, Settings
from vldac.utils.errors import UserError
from vldac.utils.files import write_json

#: Where the class of each benchmark is; importing it may need the benchmark's own packages.
BENCHMARKS: Mapping[str, str] = {
    "understanding": "benchmarks.suites.understanding.benchmark:Understanding",
    "vsi_bench": "benchmarks.suites.vsi_bench.benchmark:VSIBench",
    "visual_web_bench": "benchmarks.suites.visual_web_bench.benchmark:VisualWebBench",
    "balrog": "benchmarks.suites.balrog.benchmark:Balrog",
    "erqa": "benchmarks.suites.choice_sets.erqa:ERQA",
    "muirbench": "benchmarks.suites.choice_sets.muirbench:MuirBench",
    "video_mme_spatial": "benchmarks.suites.choice_sets.video_mme:VideoMMESpatial",
}


class UnknownBenchmarkError(UserError):
    """No benchmark has this name; the message names them all."""


def make(name: str, settings: Settings) -> Benchmark:
    """The benchmark of this name.

    Raises:
        UnknownExamError: there is none.
        BenchmarkDataError: its data is not there, or not as published.
    """
    if name not in BENCHMARKS:
        raise UnknownBenchmarkError(f"there is no benchmark {name!r}; benchmarks are {', '.join(BENCHMARKS)}")
    module, _, attribute = BENCHMARKS[name].partition(":")
    made: Benchmark = getattr(importlib.import_module(module), attribute)(settings)
    return made


def run_benchmark(
    benchmark: Benchmark,
    runner: Runner,
    out: Path,
    model: Mapping[str, Any],
    *,
    inputs: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Benchmarks a model, or goes on where a killed benchmark of the same model was.

    Args:
        benchmark: with its settings.
        runner: the model.
        out: takes benchmark.json, records.jsonl and summary.json.
        model: what tells this model and its picture limits from others, as JSON.
        inputs: hash of whatever else decides the records, such as the code.
        overwrite: remove what `out` holds of another benchmark, model or inputs, instead of raising.

    Returns:
        What summary.json holds: see `Benchmark.summarise`, with the benchmark's name, whether its data is synthetic,
        and its identity.

    Raises:
        OtherExamError: `out` holds another benchmark, another model's, or one of other inputs.
        RecordsError: another process writes to `out`, or something in it is no record.
    """
    identity = {
        "benchmark": benchmark.name,
        "profile": benchmark.settings.profile,
        "limit": benchmark.settings.limit,
        **benchmark.identity(),
    }
    decides = {"model": dict(model)} | ({} if inputs is None else {"inputs": inputs})
    with Records(out, {**identity, **decides}, overwrite=overwrite) as records:
        benchmark.run(runner, records)
        scores = benchmark.summarise(list(records))
        summary = {
            "benchmark": benchmark.name,
            "title": benchmark.title,
            "synthetic": benchmark.synthetic,
            **scores,
            "identity": identity,
        }
        write_json(out / SUMMARY, summary)
    return summary
