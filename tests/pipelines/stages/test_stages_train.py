"""Stage `train`: a run that was killed while DVC recorded its results is not trained again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipelines.core.project import read_json, read_lock
from tests.pipelines.conftest import dvc


@pytest.mark.slow
def test_what_was_trained_and_not_recorded_is_written_again_and_what_was_recorded_is_trained(
    finished_project: Path,
) -> None:
    before = read_json(finished_project / "runs/train.json")["run_key"]
    weights = read_lock(finished_project).out("train", "models/policy")
    lock = yaml.safe_load((finished_project / "dvc.lock").read_text())
    del lock["stages"]["train"]
    (finished_project / "dvc.lock").write_text(yaml.safe_dump(lock))
    shutil.rmtree(finished_project / ".dvc/cache/runs")

    assert "starting at update 10" in dvc("repro", "--single-item", "train")
    assert read_json(finished_project / "runs/train.json")["run_key"] == before
    assert read_lock(finished_project).out("train", "models/policy") == weights

    assert "starting at update 0" in dvc("repro", "--single-item", "--force", "train")
    assert read_json(finished_project / "runs/train.json")["run_key"] != before
