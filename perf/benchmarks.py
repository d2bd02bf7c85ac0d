"""How fast a model answers the questions of a benchmark: in batches, and one at a time.

vldac perf benchmarks [--base models/base] [--questions 64] [--batch-size 32]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.harness import section
from benchmarks.harness.options import Options
from benchmarks.harness.runner import VLMRunner
from benchmarks.harness.task import Request
from benchmarks.suites.understanding.benchmark import KINDS, Understanding
from perf import common
from vldac.config import load
from vldac.evaluation import model
from vldac.utils.errors import report_errors
from vldac.utils.libraries import quiet, set_threads


def seconds(runner: VLMRunner, requests: Sequence[Request], batch_size: int) -> float:
    """Wall-clock seconds of answering all requests, `batch_size` at a time."""
    started = time.perf_counter()
    for start in range(0, len(requests), batch_size):
        runner.answer(requests[start : start + batch_size])
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = common.parser("benchmarks", __doc__)
    parser.add_argument("--questions", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    config = load(options.params, options.set)
    sizes = section.parse(config.benchmarks)
    quiet()
    set_threads(config.deepspeed.threads)
    benchmark = Understanding(Options(style=config.env.prompt, limit=-(-options.questions // len(KINDS))))
    requests = [Request(question.load(), config.rollout.max_new_tokens) for question in benchmark.questions()]
    requests = requests[: options.questions]
    with common.base_model(config, options.base) as base:
        runner = VLMRunner(
            model.load(base, None, dtype=config.model.dtype),
            max_pixels=sizes.max_pixels,
            min_pixels=sizes.min_pixels,
        )
        seconds(runner, requests[: options.batch_size], options.batch_size)  # the first pass of a process is slow
        batched = seconds(runner, requests, options.batch_size)
        single = seconds(runner, requests, 1)
    count = len(requests)
    print(common.heading(runner.vlm.device, benchmark.title, f"{count} questions"))
    print(f"{options.batch_size} questions at once   {count / batched:8.1f} answers/s")
    print(f"one question at a time {count / single:8.1f} answers/s")
    print(f"batched / one at a time: {single / batched:.1f} x")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
