"""VSI-Bench's entry and its own options."""

from __future__ import annotations

from pydantic import Field

from benchmarks.harness.options import Options, Parser
from benchmarks.harness.registry import register


class VSIBenchOptions(Options):
    """VSI-Bench's options."""

    parser: Parser = Field(
        default="original", description="how answers are read: as VSI-Bench's own program does, or lmms-eval"
    )


ENTRY = register(
    "vsi_bench", "VSI-Bench", "benchmarks.suites.vsi_bench.benchmark:VSIBench", VSIBenchOptions, default=True
)
