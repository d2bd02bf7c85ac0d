"""A whole project in a temporary directory: its own git, DVC and packages, with fakes where a model would work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from unittest import mock

import pytest
import yaml

from pipelines.commands.run import environment
from pipelines.tracking import runs
from tests.integration.service_client import clean_environment, free_port, until
from vldac.utils.processes import kill_when_parent_dies

REPOSITORY = Path(__file__).parents[2]
FAKES = {
    "warm_start.py": "vldac/warm_start.py",
    "train.py": "vldac/train.py",
    "acting.py": "vldac/acting.py",
    "episodes.py": "vldac/evaluation/episodes.py",
    "benchmarks.py": "benchmarks/__main__.py",
}
PARAMS = {
    "env": {"id": "GymCards-NumberLine-v0", "num_envs": 4, "num_workers": 1},
    "rollout": {"steps": 8},
    "train": {"total_steps": 320, "batch_size": 32},
}


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's, whose tables take a second to make."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with mock.patch.dict(os.environ, runs._DEFAULTS):
        import mlflow  # noqa: PLC0415  # seconds to import, and it reads the environment

        mlflow.MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def mlflow_database(_empty_database: Path, tmp_path: Path) -> None:
    """The database of a project in `tmp_path`."""
    (tmp_path / ".local").mkdir()
    shutil.copy(_empty_database, tmp_path / ".local")


@pytest.fixture(scope="session")
def _committed_project(_empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `project` copies."""
    root = tmp_path_factory.mktemp("template") / "project"
    root.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("vldac", "envs", "benchmarks", "pipelines", "conf", "extensions"):
        shutil.copytree(REPOSITORY / package, root / package, ignore=ignore)
    for name, target in FAKES.items():
        shutil.copy(REPOSITORY / "tests/pipelines/fakes" / name, root / target)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(REPOSITORY / name, root / name)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for section, values in PARAMS.items():
        params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    with chdir(root):
        call("git", "init", "-q")
        dvc("init", "-q")
        dvc("config", "core.analytics", "false")
        commit("start")
        call("git", "repack", "-adq")  # one file in place of hundreds
    (root / ".local").mkdir()
    shutil.copy(_empty_database, root / ".local")
    return root


@pytest.fixture(scope="session")
def _finished_project(_committed_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `finished_project` copies."""
    root = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(_committed_project, root, symlinks=True)
    with chdir(root):
        dvc("repro")
        commit("results")
    return root


@pytest.fixture
def project(_committed_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's directory, current and committed."""
    return _copied(_committed_project, tmp_path, monkeypatch)


@pytest.fixture
def finished_project(_finished_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same after `dvc repro`, its results committed."""
    return _copied(_finished_project, tmp_path, monkeypatch)


def _copied(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(template, root, symlinks=True)
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server's API, by which many tests are spared the making of a database each."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    module = "pipelines.orchestration.prefect_server"
    command = (sys.executable, "-m", module, "--host", "127.0.0.1", "--port", str(port))
    with (home / "log").open("w") as log:
        env = {
            **clean_environment(REPOSITORY),
            **environment(home),
            "PREFECT_HOME": str(home),
            "PREFECT_UI_API_URL": "/api",
        }
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    kill_when_parent_dies(server.pid)

    def answers() -> bool:
        assert server.poll() is None, (home / "log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    until(answers, 180, "the Prefect server answers")
    yield f"http://127.0.0.1:{port}/api"
    server.terminate()
    server.wait(30)


@pytest.fixture
def shared_server(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test go to that server; without this fixture, `vldac run` starts one of its own."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)


def call(*command: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """Runs a command to its end and returns all that it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    return printed


def dvc(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    return call(sys.executable, "-m", "dvc", *arguments, code=code, env=env)


def commit(message: str) -> None:
    call("git", "add", "-A")
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    call("git", *author, "commit", "-q", "--allow-empty", "-m", message)
