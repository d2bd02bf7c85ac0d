"""Runs a benchmark of a model: BALROG, VSI-Bench, VisualWebBench, general understanding, or one of your own.

    python -m benchmarks --benchmark vsi_bench --base models/base --policy models/policy --out scores/mine
    python -m benchmarks --benchmark balrog --base Qwen/Qwen2-VL-7B-Instruct --out scores/qwen --agent cot
    python -m benchmarks --benchmark my_module:MyBenchmark --base models/base --out scores/mine

A killed benchmark resumes: type the same command again. `--benchmark NAME --help` has the options of one benchmark.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.harness import command_line, registry, run, section
from benchmarks.harness.options import Options
from benchmarks.harness.records import SUMMARY
from benchmarks.harness.registry import Entry
from benchmarks.harness.runner import VLMRunner
from benchmarks.harness.scores import plus_minus
from benchmarks.harness.task import Benchmark, BenchmarkDataError
from vldac.config import Config, ModelConfig, explain, load
from vldac.evaluation import model
from vldac.policy import LOADED
from vldac.utils.errors import report_errors
from vldac.utils.libraries import quiet, set_threads


def table(summary: Mapping[str, Any]) -> str:
    """Scores in percent with their standard errors, a line a task, the overall score last."""
    rows = [(f"  {name}", task) for name, task in summary["tasks"].items()]
    width = max(len(name) for name, _ in rows) + 2
    made_here = " (synthetic)" if summary["synthetic"] else ""
    lost = f", {summary['unanswered']} of them of questions that could not be put" if "unanswered" in summary else ""
    lines = [f"{summary['title']}{made_here}, {summary['count']} records{lost}"]
    for name, scores in [*rows, ("overall", summary)]:
        lines.append(f"{name:<{width}} {plus_minus(scores)}   n={scores['count']}")
    return "\n".join(lines)


def parser(entry: Entry | None) -> argparse.ArgumentParser:
    """The command line of a benchmark, or what those of all benchmarks have in common."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--benchmark",
        required=True,
        metavar="NAME",
        help=f"{', '.join(registry.names())}, or module:Class of one that its module registers",
    )
    command_line.add_model(made)
    made.add_argument("--out", required=True, type=Path, help="takes records.jsonl and summary.json")
    made.add_argument("--base-out", type=Path, metavar="OUT", help="benchmark the policy's base as well, into OUT")
    made.add_argument("--overwrite", action="store_true", help="remove records of another benchmark or model first")
    made.add_argument(
        "--inputs", metavar="DIGEST", help="of what else decides the records; others are another benchmark"
    )
    several = made.add_mutually_exclusive_group()
    several.add_argument("--options", metavar="JSON", help="all options below as one object; those that are given win")
    several.add_argument(
        "--params",
        metavar="FILE",
        help="options as its `benchmarks` and `env.prompt` have them, a base read as its `model` says; given ones win",
    )
    title = "options of every benchmark" if entry is None else f"options of {entry.title}"
    command_line.add_options(made.add_argument_group(title), [Options if entry is None else entry.options])
    return made


def options_of(
    entry: Entry, made: argparse.ArgumentParser, parsed: argparse.Namespace, config: Config | None = None
) -> Options:
    """The options that a command line gives, over those of a params file, validated.

    Wrong ones end the process with one line.

    Raises:
        ConfigError: the section `benchmarks` of the params file is wrong.
    """
    values: dict[str, Any] = {}
    if parsed.options is not None:
        try:
            values = entry.options.model_validate_json(parsed.options).model_dump()
        except ValidationError as error:
            made.error(f"--options: {explain(error.errors()[0], entry.options)}")
    if config is not None:
        chosen = section.parse(config.benchmarks)
        values = chosen.options(entry.name, style=config.env.prompt, data=chosen.folder_of(entry.name)).model_dump()
    return command_line.validated(entry.options, values | command_line.given(parsed, entry.options), made.error)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    name = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    name.add_argument("--benchmark")
    named = name.parse_known_args(arguments)[0].benchmark
    entry = None if named is None else registry.get(named)
    made = parser(entry)
    parsed = made.parse_args(arguments)
    command_line.check_model(made, parsed)
    assert entry is not None  # --benchmark is required
    config = None if parsed.params is None else load(parsed.params)
    options = options_of(entry, made, parsed, config)
    quiet()
    set_threads(1 if parsed.threads is None else parsed.threads)
    benchmark = registry.make(entry.name, options)
    if parsed.base_out is not None:
        if parsed.policy is None:
            raise BenchmarkDataError("--base-out is for the base of a policy; name the policy with --policy")
        # The policy says how it was trained, in which precision, on which revision; its base is benchmarked likewise.
        like = model.described(parsed.policy)
        parsed.dtype = parsed.dtype or like.dtype
        parsed.revision = parsed.revision or model.revision_of(parsed.base, parsed.policy)
        _run_benchmark(benchmark, parsed, None, parsed.base_out, like)
    like_config = None
    if config is not None and parsed.policy is None:  # as a policy that was trained with these parameters is read
        like_config, parsed.dtype = config.model, parsed.dtype or config.model.dtype
        parsed.revision = parsed.revision or (config.model.revision if parsed.base == config.model.base else None)
    _run_benchmark(benchmark, parsed, parsed.policy, parsed.out, like_config)
    return 0


def _run_benchmark(
    benchmark: Benchmark, parsed: argparse.Namespace, policy: Path | None, out: Path, like: ModelConfig | None = None
) -> None:
    options = benchmark.options
    vlm = model.load(parsed.base, policy, dtype=parsed.dtype, revision=parsed.revision, like=like)
    read = {} if like is None else like.model_dump(include=set(LOADED), exclude_none=True)
    identity = {
        "digest": model.digest(vlm, parsed.base, policy),
        "dtype": str(next(vlm.parameters()).dtype),
        "max_pixels": options.max_pixels,
        "min_pixels": options.min_pixels,
        **({"read": read} if read else {}),  # a policy's own digest covers it
    }
    runner = VLMRunner(
        vlm, max_pixels=options.max_pixels, min_pixels=options.min_pixels, tokens_at_once=options.tokens_at_once
    )
    started = time.monotonic()
    summary = run.run_benchmark(benchmark, runner, out, identity, inputs=parsed.inputs, overwrite=parsed.overwrite)
    print(table(summary))
    print(f"{time.monotonic() - started:.0f} s; {out / SUMMARY}", flush=True)


if __name__ == "__main__":
    sys.exit(report_errors(main))
