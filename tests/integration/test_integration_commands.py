"""The commands beside `make run`, at tiny scale."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def call(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_perf_prints_rates_shares_and_the_ratio(tiny_params_file: Any, tiny_base: Path) -> None:
    printed = call("perf", "--params", str(tiny_params_file()), "--base", str(tiny_base), "--updates", "1")
    for words in (
        "steps/s",
        "tokens/s",
        "simulator",
        "generation",
        "learning",
        "batched / one at a time",
        "of CPU time; by transformers' generate",
        "peak memory",
    ):
        assert words in printed


def test_a_study_has_one_line_a_seed_and_policy_and_does_nothing_twice(tiny_params_file: Any, tmp_path: Path) -> None:
    params = str(tiny_params_file({"train": {"total_steps": 16}, "warm_start": {"updates": 2}}))
    command = ("vldac.evaluation.study", "--params", params, "--seeds", "4", "--directory", str(tmp_path / "study"))
    first = call(*command)
    assert first.count("took") == 3
    rows = [line.split() for line in first.splitlines() if line.split()[1:2] and line.split()[0] == "4"]
    assert [row[1] for row in rows] == ["random", "base", "trained"]
    again = call(*command)
    assert "took" not in again
    assert again.splitlines()[-3:] == first.splitlines()[-3:]
