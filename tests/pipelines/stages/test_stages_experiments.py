"""Presets and experiments through DVC: single, queued side by side, each in a directory of its own."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.harness import section
from pipelines.core.errors import PipelineError
from pipelines.stages import config as config_stage
from pipelines.stages.evaluate import headline, write_checkpoints, write_policies
from pipelines.tracking import runs
from tests.pipelines.conftest import REPOSITORY, call, dvc
from vldac.config import Config, load

DEFINITION = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
SUMMARY: dict[str, Any] = {
    "env": "World-v0",
    "random": {"success": 0.5, "success_ci": [0.4, 0.6], "steps_to_goal": 20.0, "episodes": 100},
    "base": {"success": 0.25, "success_ci": [0.2, 0.3], "steps_to_goal": 30.0, "episodes": 100},
    "trained": {"success": 1.0, "success_ci": [0.9, 1.0], "steps_to_goal": 5.0, "episodes": 100},
    "checkpoints": [
        {"name": "update-000002", "environment_steps": 64, "success": 0.75, "success_ci": [0.6, 0.8], "episodes": 20}
    ],
}


@pytest.fixture
def committed(finished_project: Path) -> Path:
    """A project whose first results are committed."""
    call("git", "config", "user.name", "test")
    call("git", "config", "user.email", "test@example.org")
    return finished_project


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_resolved_configuration_means_what_the_params_file_means(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("env: {preset: numberline, frames: 2}\nseed: 3\n")
    assert config_stage.main(["--root", str(tmp_path)]) == 0
    resolved = tmp_path / "config.yaml"
    written, meant = load(resolved), load(tmp_path / "params.yaml")
    assert written.model_copy(update={"benchmarks": {}}) == meant.model_copy(update={"benchmarks": {}})
    assert section.parse(written.benchmarks).model_dump() == section.parse(meant.benchmarks).model_dump()
    # Everything is written out, so that no default decides later.
    assert yaml.safe_load(resolved.read_text()).keys() == Config.model_fields.keys()
    assert resolved.read_text().startswith("# Written by")


def test_a_prompt_template_lies_where_its_changes_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("conf/prompts", "extensions", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mine.txt").write_text("{instruction} {actions}")
        (tmp_path / "params.yaml").write_text(f"env: {{prompt_template: {folder}/mine.txt}}\n")
        if folder == "elsewhere":
            with pytest.raises(PipelineError, match=r"elsewhere/mine.txt lies outside of conf/ and `extensions`"):
                config_stage.main(["--root", str(tmp_path)])
        else:
            assert config_stage.main(["--root", str(tmp_path)]) == 0
            written = yaml.safe_load((tmp_path / "config.yaml").read_text())
            assert written["env"]["prompt_template"] == "{instruction} {actions}"


def test_the_tables_of_an_evaluation_hold_each_policy_with_its_interval(tmp_path: Path) -> None:
    write_policies(tmp_path / "policies.csv", SUMMARY)
    assert read(tmp_path / "policies.csv")[1] == {
        "environment": "World-v0",
        "policy": "base model",
        "success": "0.25",
        "low": "0.2",
        "high": "0.3",
        "episodes": "100",
    }
    write_checkpoints(tmp_path / "checkpoints.csv", SUMMARY, 320)
    rows = [(row["environment_steps"], row["success"], row["low"]) for row in read(tmp_path / "checkpoints.csv")]
    assert rows == [("64", "0.75", "0.6"), ("320", "1.0", "0.9")]
    assert headline(SUMMARY) == {"success": 1.0, "low": 0.9, "high": 1.0, "base": 0.25, "steps_to_goal": 5.0}


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf/plots").glob("*.json")), ids=lambda path: path.name)
def test_a_plot_template_has_every_anchor_that_dvc_fills(path: Path) -> None:
    text = json.dumps(json.loads(path.read_text()))
    for anchor in ("DATA", "TITLE", "X", "Y", "X_LABEL", "COLOR"):
        assert f'"<DVC_METRIC_{anchor}>"' in text
    plots = [plot for entry in DEFINITION["plots"] if isinstance(entry, dict) for plot in entry.values()]
    assert [plot for plot in plots if plot["template"] == f"conf/plots/{path.name}"], "no plot uses it"


@pytest.mark.slow
def test_presets_by_hand_and_by_experiment_rerun_what_they_change(committed: Path) -> None:
    # By the command line: the name stays in params.yaml, the values are in config.yaml and in the lock.
    dvc("exp", "run", "-S", "env=ezpoints", "-S", "train.gamma=0.9")
    assert yaml.safe_load(Path("params.yaml").read_text())["env"] == "ezpoints"
    lock = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert lock["train"]["params"]["config.yaml"]["env.id"] == "GymCards-EZPoints-v0"
    assert json.loads(Path("data/environment/manifest.json").read_text())["id"] == "GymCards-EZPoints-v0"
    assert dvc("status").strip() == "Data and pipelines are up to date."

    # By hand: a preset with a change that no training depends on.
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["env"] = {"preset": "ezpoints", "step_deadline": 50.0}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    printed = dvc("repro")
    assert "Stage 'train' didn't change" in printed
    assert load("config.yaml").env.step_deadline == 50.0

    # A name that does not exist stops before any work.
    values["env"] = "ezpoint"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert "error: params.yaml: unknown preset env: 'ezpoint'; did you mean 'ezpoints'?" in dvc(
        "repro", code=255
    ).replace(f"{Path.cwd()}/", "")


@pytest.mark.slow
def test_queued_experiments_run_side_by_side_and_share_the_projects_server(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Relative to the project, not to the directory that an experiment runs in.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///.local/mlflow.db")
    dvc("exp", "run", "--queue", "-S", "seed=1,2", "-S", "env=numberline", "-S", "train.total_steps=1024")
    # Not through a pipe: a process that DVC leaves behind keeps it open until the last worker has gone.
    start = (sys.executable, "-m", "dvc", "queue", "start", "-j", "2")
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while re.search(r"(Queued|Running)\s*$", status := dvc("queue", "status"), re.MULTILINE):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    dvc("queue", "stop")
    assert len(re.findall(r"Success\s*$", status, re.MULTILINE)) == 2, status
    assert call("git", "status", "--porcelain") == ""  # nothing of it touched the workspace

    client = runs.client(committed)
    for name in dvc("exp", "list", "--name-only").split()[1:]:
        dvc("exp", "apply", name)
        train = json.loads(Path("runs/train.json").read_text())
        run = client.get_run(train["mlflow_run_id"])
        assert run.data.tags["dvc.exp.name"] == name
        assert run.data.params["seed"] == str(load("config.yaml").seed)
        assert run.data.metrics["environment_steps"] == 1024
        assert not list(Path(".dvc/tmp/exps").glob("tmp*/.local"))
