"""Two pipelines at once on one machine: nothing is corrupted, and nothing is registered twice."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.tracking import runs
from tests.pipelines.conftest import commit, dvc

RUN = (sys.executable, "-m", "vldac", "run", "--steps", "environment", "base", "train", "register")
pytestmark = pytest.mark.slow


def start(root: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        RUN,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.usefixtures("shared_server")
def test_two_checkouts_share_a_tracking_database_that_neither_of_them_has_made(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(project, other)
    database = tmp_path / "shared/mlflow.db"
    params = (other / "params.yaml").read_text()
    (other / "params.yaml").write_text(params.replace("seed: 0", "seed: 1"))
    shared = {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"}
    both = [start(root, **shared) for root in (project, other)]
    printed = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(printed)

    with sqlite3.connect(database) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    os.environ |= shared
    client = runs.client(project)
    (model,) = client.search_registered_models()
    versions = client.search_model_versions(f"name='{model.name}'")
    assert sorted(str(version.version) for version in versions) == ["1", "2"]
    assert {version.tags["seed"] for version in versions} == {"0", "1"}
    for version in versions:
        history = client.get_metric_history(version.run_id, "loss/policy")
        assert sorted(metric.step for metric in history) == [32 * update for update in range(1, 11)]


def test_the_second_run_in_one_project_waits_or_says_so_and_leaves_the_first_whole(
    project: Path, prefect_server: str
) -> None:
    (project / ".local/mlflow.db").unlink()
    both = [start(project), start(project)]
    printed = [process.communicate(timeout=300)[0] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, "\n".join(printed)
    for code, text in zip(codes, printed, strict=True):
        if code:
            last = text.rstrip().splitlines()[-1]
            said = r"error: another dvc command works in this project( \(process \d+\))?; wait for it or stop it"
            assert re.fullmatch(said, last)
    again = start(project, PREFECT_API_URL=prefect_server)
    assert "version 1" in again.communicate(timeout=300)[0]
    assert again.returncode == 0
    commit("done")
    assert dvc("status", "train").strip() == "Data and pipelines are up to date."
    client = runs.client(project)
    (model,) = client.search_registered_models()
    assert len(client.search_model_versions(f"name='{model.name}'")) == 1
