"""The commands beside `make run`, at tiny scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perf import benchmarks, serving

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
        "as the released code works",
        "MFLOP/step",
        "scoring",
        "of CPU time; by transformers' generate",
        "peak memory",
    ):
        assert words in printed


def test_perf_of_rollouts_has_a_line_for_each_way(tiny_params_file: Any, tiny_base: Path) -> None:
    params = str(tiny_params_file({"env": {"frames": 2}}))
    printed = call("perf.rollout", "--params", params, "--base", str(tiny_base), "--rounds", "1")
    for words in ("steps/s", "one group  ", "two groups (double_buffering)", "one group, frames anew", "1.00x"):
        assert words in printed


def test_perf_of_questions_and_of_serving_print_a_ratio(
    tiny_params_file: Any, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--params", str(tiny_params_file()), "--base", str(tiny_base), "--batch-size", "2"]
    for main, more in ((benchmarks.main, ["--questions", "4"]), (serving.main, ["--questions", "8", "--clients", "3"])):
        assert main([*places, *more]) == 0
        printed = capsys.readouterr().out
        assert printed.count("answers/s") == 2
        assert "batched / one at a time: " in printed


def test_perf_of_environments_has_a_line_for_each() -> None:
    worlds = ("GymCards-NumberLine-v0", "GymCards-Points24-v0 solvable_only=true")
    printed = call("perf.environments", "--envs", *worlds, "--episodes", "2", "--seconds", "0.1")
    for world in worlds:
        assert printed.count(f"| {world} |") == 2
    assert "worker overhead" in printed
    assert "1.00 [" in printed


def test_a_study_of_a_params_file_has_one_line_a_seed_and_policy_and_does_nothing_twice(
    tiny_params_file: Any, tmp_path: Path
) -> None:
    params = str(tiny_params_file({"train": {"total_steps": 16}, "warm_start": {"updates": 2}}))
    places = ("--directory", str(tmp_path / "runs"), "--out", str(tmp_path / "results"))
    command = ("vldac.evaluation.study", "--params", params, "--seeds", "4", *places)
    first = call(*command)
    assert first.count("trained in") == 1
    rows = [line.split() for line in first.splitlines() if line.split()[1:2] and line.split()[0] == "4"]
    assert [row[1] for row in rows] == ["random", "base", "trained"]
    again = call(*command)
    assert "trained in" not in again
    assert again.splitlines()[-3:] == first.splitlines()[-3:]


def test_a_micro_study_from_the_base_model_to_the_report(tiny_params_file: Any, tmp_path: Path) -> None:
    profile = tmp_path / "micro.yaml"
    profile.write_text(
        f"params: {tiny_params_file({'warm_start': {'updates': 2}})}\n"
        "environments: [{name: Line}]\n"
        "algorithms: [vldac, {name: vldac, label: raw, options: {normalize_advantages: false}}]\n"
        "seeds: [0]\ntotal_steps: 32\nepisodes: 4\n"
        "benchmarks: [{name: understanding, label: Pictures}]\n"
    )
    out = tmp_path / "results"
    places = ("--directory", str(tmp_path / "runs"), "--out", str(out))
    printed = call("vldac.evaluation.study", str(profile), *places, "--only", "raw")
    assert printed.count(": trained in") == 1
    assert "1 of 2 cells have finished" in printed
    printed = call("vldac.evaluation.study", str(profile), *places, "--jobs", "2")
    assert printed.count(": trained in") == 1
    lines = [json.loads(line) for line in (out / "cells.jsonl").read_text().splitlines()]
    assert [(line["algorithm"], line["seed"], line["trained"]["episodes"]) for line in lines] == [
        ("vldac", 0, 4),
        ("raw", 0, 4),
    ]
    for line in lines:
        assert line["environment_steps"] == line["curve"]["environment_steps"][-1] == 32
        assert line["cpu_seconds"] > 0
        asked = line["benchmarks"]["Pictures"]
        assert asked["base"]["count"] == asked["trained"]["count"] == asked["difference"]["count"] > 0
        assert asked["difference"]["mean"] == pytest.approx(asked["trained"]["score"] - asked["base"]["score"])
    assert len(list((tmp_path / "runs/bases").iterdir())) == 1  # shared
    assert {path.name for path in out.glob("*.svg")} >= {"success.svg", "curves.svg", "improvement.svg"}
    page = (out / "report.md").read_text()
    assert "| raw |" in page
    assert "| trained in Line, raw |" in page
    (out / "report.md").unlink()
    assert call("vldac.evaluation.study", "report", str(out)).strip() == str(out / "report.md")
    assert (out / "report.md").read_text() == page
