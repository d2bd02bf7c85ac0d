"""The directory of a training run: found again until its results are recorded, and of one training at a time."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from pipelines.core import rundir
from pipelines.core.errors import PipelineError
from pipelines.core.project import md5_of


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """What a run wrote, by which it is known."""
    path = tmp_path / "train.json"
    path.write_text('{"run_key": "1"}')
    return path


def finish(runs: Path, result: Path) -> rundir.RunDirectory:
    """A run that is complete, with all that it keeps."""
    with rundir.open_run(runs, "abcd") as run:
        for name in rundir.WEIGHTS:
            (run.path / name).mkdir()
        run.metrics.write_text("{}\n")
        run.mark_complete(10, result)
    assert run.complete
    return run


def test_an_unfinished_run_is_found_again(tmp_path: Path) -> None:
    with rundir.open_run(tmp_path, "abcd") as first:
        (first.path / "checkpoints").mkdir()
    with rundir.open_run(tmp_path, "abcd") as resumed:
        assert resumed.identity == first.identity
        assert (resumed.path / "checkpoints").exists()


@pytest.mark.parametrize("recorded", [None, "of an earlier run"])
def test_a_complete_run_is_found_again_until_dvc_has_its_results(
    tmp_path: Path, result: Path, recorded: str | None
) -> None:
    first = finish(tmp_path, result)
    with rundir.open_run(tmp_path, "abcd", lambda: recorded) as resumed:
        assert resumed.identity == first.identity
        assert all((resumed.path / name).exists() for name in rundir.WEIGHTS)
        assert not resumed.complete  # until its results are written again


def test_a_run_that_dvc_has_is_moved_aside(tmp_path: Path, result: Path) -> None:
    first = finish(tmp_path, result)
    with rundir.open_run(tmp_path, "abcd", lambda: md5_of(result)) as fresh:
        assert fresh.path == first.path
        assert fresh.identity.run_key != first.identity.run_key
        assert not fresh.metrics.exists()
    archived = tmp_path / f"abcd-{first.identity.run_key[:8]}"
    assert (archived / "metrics.jsonl").exists()  # its metrics may still wait for a server
    assert not any((archived / name).exists() for name in rundir.WEIGHTS)


def test_a_complete_run_without_checkpoints_or_of_an_earlier_version_is_moved_aside(
    tmp_path: Path, result: Path
) -> None:
    first = finish(tmp_path, result)
    (first.path / "checkpoints").rmdir()
    with rundir.open_run(tmp_path, "abcd") as second:
        assert second.identity.run_key != first.identity.run_key
        (second.path / "checkpoints").mkdir()
        (second.path / "complete.json").write_text(json.dumps({"environment_steps": 10}))
    with rundir.open_run(tmp_path, "abcd", lambda: "of whatever") as third:
        assert third.identity.run_key != second.identity.run_key


def test_one_run_directory_has_one_training(tmp_path: Path) -> None:
    def second() -> None:
        with pytest.raises(PipelineError, match="another process is training"), rundir.open_run(tmp_path, "abcd"):
            pass

    with rundir.open_run(tmp_path, "abcd"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    with rundir.open_run(tmp_path, "abcd"):
        pass
