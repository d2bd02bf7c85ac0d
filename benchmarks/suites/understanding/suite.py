"""The entry of the benchmark of general understanding."""

from __future__ import annotations

from benchmarks.harness.registry import register

ENTRY = register(
    "understanding",
    "General understanding",
    "benchmarks.suites.understanding.benchmark:Understanding",
    default=True,
    published=False,
)
