"""`vldac envs new`: what it writes runs at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.commands import cli, environments, new_env
from pipelines.core import extensions
from pipelines.core.errors import PipelineError
from vldac.config import load

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "extensions"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "conf").mkdir()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("env: my_maze\n")
    return tmp_path


def test_what_it_writes_runs_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").write_text("seed: 1\n")
    assert cli.call(["envs", "new", "my_maze"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == [
        "vldac envs check my_maze",
        "python -m pytest extensions/test_my_maze.py",
        "vldac run --set env=my_maze",
    ]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "extensions/test_my_maze.py"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    (project / "params.yaml").write_text("env: my_maze\n")
    config = load("params.yaml")
    assert (config.env.id, config.env.width) == ("extensions.my_maze:MyMaze", 64)
    extensions.check(project, config)  # DVC sees it
    found = list(environments.check("my_maze", episodes=5))
    assert [finding.verdict for finding in found] == ["ok"] * len(environments.CHECKS), found
    assert "success 1.00" in found[-1].text


def test_where_pytest_is_not_installed_the_command_installs_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "params.yaml").unlink()
    monkeypatch.setattr(new_env, "find_spec", lambda _: None)
    assert new_env.create("maze")[2] == "pip install pytest && python -m pytest extensions/test_maze.py"
    (project / "Makefile").touch()
    assert new_env.create("garden")[2] == "make test ARGS=extensions/test_garden.py"


def test_what_it_writes_passes_the_linter(project: Path) -> None:
    (project / "params.yaml").unlink()
    new_env.create("maze")
    options = ["--config", str(REPOSITORY / "pyproject.toml"), "--config", f"src = ['{REPOSITORY}']", "extensions"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["My-Maze", "3d", "class", "../maze", "", "a.b"])
def test_a_name_that_no_module_can_have_is_refused(project: Path, name: str) -> None:
    with pytest.raises(PipelineError, match="cannot be the name of a module"):
        new_env.create(name)
    assert not (project / "extensions").exists()


def test_nothing_is_written_over_and_nothing_outside_of_a_project(project: Path) -> None:
    (project / "params.yaml").unlink()
    new_env.create("maze")
    with pytest.raises(PipelineError, match=r"extensions/maze\.py exists"):
        new_env.create("maze")
    (project / "params.yaml").write_text("extensions: own.py\n")
    with pytest.raises(PipelineError, match="is no folder that can be imported from"):
        new_env.create("other")
    (project / "dvc.yaml").unlink()
    with pytest.raises(PipelineError, match="this is no project"):
        new_env.create("other")
