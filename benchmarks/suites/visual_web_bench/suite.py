"""VisualWebBench's entry and its own options."""

from __future__ import annotations

from pydantic import Field

from benchmarks.harness.options import Options, Parser
from benchmarks.harness.registry import register


class VisualWebBenchOptions(Options):
    """VisualWebBench's options."""

    parser: Parser = Field(
        default="original", description="how answers are read: as VisualWebBench's own program does, or lmms-eval"
    )


ENTRY = register(
    "visual_web_bench",
    "VisualWebBench",
    "benchmarks.suites.visual_web_bench.benchmark:VisualWebBench",
    VisualWebBenchOptions,
    default=True,
)
