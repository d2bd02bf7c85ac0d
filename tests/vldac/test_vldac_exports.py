"""Policies that a run keeps on its way: where they stand, and that a kill changes nothing about them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from vldac import exports
from vldac.config import Config, ConfigError, parse

REPOSITORY = Path(__file__).parents[2]
#: Eight updates; exports after 2, 4 and 6, resumed from 3 or 6.
CHANGES = {"train": {"total_steps": 128}, "checkpoint": {"every": 3, "export_every": 2}}


@pytest.mark.parametrize(("every", "updates"), [(0, []), (1, [1, 2, 3, 4]), (2, [2, 4]), (5, []), (9, [])], ids=str)
def test_the_last_policy_is_no_export(every: int, updates: list[int]) -> None:
    config = parse({"train": {"total_steps": 1280}, "checkpoint": {"export_every": every}})
    assert config.updates == 5
    assert config.exported_updates == updates


def test_a_run_that_is_past_an_export_it_lacks_says_so(tmp_path: Path) -> None:
    config = parse({"checkpoint": {"export_every": 4}})
    exports.require(tmp_path, config, 3)
    exports.directory(tmp_path, 4).mkdir(parents=True)
    exports.require(tmp_path, config, 7)
    with pytest.raises(ConfigError, match="is past update 8 without its export; choose another --run-dir"):
        exports.require(tmp_path, config, 8)
    exports.require(tmp_path, Config(), 8)


def start(directory: Path, params: Path, base: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vldac.train", "--params", str(params), "--base", str(base)]
    return subprocess.Popen(
        [*command, "--run-dir", str(directory / "run"), "--out", str(directory / "policy")],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def exported(directory: Path) -> dict[str, bytes]:
    root = directory / "run/exports"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_killed_run_exports_what_an_uninterrupted_one_exports(
    tiny_params: Any, tiny_base: Path, tmp_path: Path
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(tiny_params(CHANGES)))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for directory in (whole, killed):
        directory.mkdir()
    process = start(whole, params, tiny_base)
    assert process.wait() == 0, process.communicate()[0]

    process = start(killed, params, tiny_base)
    metrics = killed / "run/metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 5):  # beyond a checkpoint and two exports
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "policy").exists()
    process = start(killed, params, tiny_base)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "resuming from update" in printed

    files = exported(whole)
    assert {name.partition("/")[0] for name in files} == {f"update-00000{update}" for update in (2, 4, 6)}
    assert exported(killed) == files
    weights = {files[f"update-00000{update}/adapter_model.safetensors"] for update in (2, 4, 6)}
    assert len(weights) == 3
    described = json.loads(files["update-000004/vldac.json"])
    assert described["environment_steps"] == 64
    # Nothing in a policy's files depends on how it is benchmarked or how often it was kept.
    assert not {"evaluate", "checkpoint"} & described["config"].keys()

    params.write_text(yaml.safe_dump(tiny_params({**CHANGES, "checkpoint": {"every": 3, "export_every": 1}})))
    process = start(whole, params, tiny_base)
    printed, _ = process.communicate()
    assert process.returncode == 1
    assert "is past update 1 without its export" in printed
    assert "Traceback" not in printed
