"""Runs with parameters of their own: which checkout they work in, what it holds, and what it shares."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.core.errors import PipelineError
from pipelines.core.project import revision, workspace
from pipelines.stages import worktrees
from pipelines.tracking import runs
from tests.pipelines.conftest import call, commit, dvc
from vldac.config import ConfigError, load

RUN = (sys.executable, "-m", "vldac", "run", "--steps", "environment", "base", "train")
REGISTERED = ("register", "evaluate", "promote")


def test_a_checkout_that_git_has_forgotten_is_made_again(project: Path) -> None:
    config = load(project / "params.yaml", ["seed=3"])
    with worktrees.prepared(project, config) as checkout:
        assert worktrees._is_checkout(project, checkout)
    shutil.rmtree(project / ".git/worktrees")  # of a container that was made anew, or of a project that was moved
    assert not worktrees._is_checkout(project, checkout)
    with worktrees.prepared(project, config) as again:
        assert again == checkout
        assert worktrees._is_checkout(project, again)
        assert revision(again).commit == revision(project).commit


@pytest.mark.slow
def test_a_checkout_follows_the_project_and_keeps_its_results(project: Path) -> None:
    with worktrees.enter(project, overrides=["seed=3"]) as checkout:
        assert Path.cwd() == checkout
        assert checkout.parent == project / ".local/checkouts"
        assert checkout.name.startswith("GymCards-NumberLine-v0-seed-3-")
        assert workspace(checkout) == project
        assert runs.tracking_uri(checkout) == runs.tracking_uri(project)
        assert load("params.yaml") == load(project / "params.yaml", ["seed=3"])
        assert not revision(checkout).dirty
        assert dvc("cache", "dir").strip() == str(project / ".dvc/cache")
    assert Path.cwd() == project
    assert "DVC_ROOT" not in os.environ
    assert load("params.yaml").seed == 0

    # A file more, a file less, a changed one, and a result of an earlier run in that checkout.
    (project / "vldac/more.py").write_text("more = 1\n")
    (project / "vldac/losses.py").unlink()
    (project / "vldac/parsing.py").write_text("answers = 1\n")
    (checkout / "dvc.lock").write_text("kept")
    (project / "dvc.lock").write_text("not this one")
    with worktrees.enter(project, overrides=["seed=3"]) as again:
        assert again == checkout
        assert (again / "vldac/more.py").exists()
        assert not (again / "vldac/losses.py").exists()
        assert (again / "vldac/parsing.py").read_text() == "answers = 1\n"
        assert (again / "dvc.lock").read_text() == "kept"
        assert revision(again).dirty
    commit("changed")
    with worktrees.enter(project, overrides=["seed=3"]) as again:
        assert revision(again).commit == revision(project).commit
        assert not revision(again).dirty
    shutil.rmtree(checkout)
    with worktrees.enter(project, overrides=["seed=3"]) as again:
        assert (again / "vldac/more.py").exists()
    with worktrees.enter(project, overrides=["env.id=gymnasium:vldac/NumberLine-v0"]) as other:
        assert other.parent == project / ".local/checkouts"
        assert other.name.startswith("gymnasium-vldac-NumberLine-v0-seed-0-")


def test_what_params_yaml_says_already_runs_in_the_project_itself(project: Path) -> None:
    with worktrees.enter(project, overrides=["seed=0"]) as root:
        assert root == project
    assert os.listdir(project / ".local") == ["mlflow.db"]


def test_a_wrong_parameter_leaves_no_checkout(project: Path) -> None:
    for params, overrides, error, message in (
        ("params.yaml", ["train.gama=1"], ConfigError, "did you mean 'train.gamma'"),
        ("conf/none.yaml", [], ConfigError, "No such file"),
        ("../params.yaml", [], PipelineError, "is outside the project"),
    ):
        with pytest.raises(error, match=message), worktrees.enter(project, params, overrides):
            pass
    assert os.listdir(project / ".local") == ["mlflow.db"]


def test_a_project_without_a_commit_is_told_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(PipelineError, match="is not in git; type `git init && git add -A && git commit"):
        worktrees.prepared(tmp_path, load(tmp_path / "params.yaml")).__enter__()
    call("git", "init", "-q", str(tmp_path))
    with pytest.raises(PipelineError, match="needs a commit; type `git add -A && git commit"):
        worktrees.prepared(tmp_path, load(tmp_path / "params.yaml")).__enter__()


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_a_run_with_its_own_parameters_is_registered_and_leaves_the_project_alone(project: Path) -> None:
    first = call(*RUN, *REGISTERED)
    lock, policy = (
        (project / "dvc.lock").read_bytes(),
        (project / "models/policy/adapter_model.safetensors").read_bytes(),
    )
    own = ("--set", "seed=3", "--set", "train.total_steps=192")
    printed = call(*RUN, *REGISTERED, *own)
    assert "in .local/checkouts/GymCards-NumberLine-v0-seed-3-" in printed
    assert re.search(r"^update 6$", printed, re.MULTILINE)
    assert not re.search(r"^update 7$", printed, re.MULTILINE)
    assert "version 1" in first
    assert "version 2 @candidate" in printed
    assert re.search(r"^learning curve\s+\.local/checkouts/\S+/plots/learning_curve.png$", printed, re.MULTILINE)
    assert (project / "dvc.lock").read_bytes() == lock
    assert (project / "models/policy/adapter_model.safetensors").read_bytes() == policy
    assert call("git", "status", "--porcelain", "params.yaml", "vldac", "pipelines") == ""
    assert dvc("status", "evaluate").strip() == "Data and pipelines are up to date."

    client = runs.client(project)
    version = client.get_model_version("vldac-gymcards-numberline-v0-qwen2_vl", "2")
    assert version.tags["seed"] == "3"
    assert version.tags["git.dirty"] == "false"
    assert json.loads(version.tags["params"])["train"]["total_steps"] == 192

    # The same again is found again; so is a base model, in the cache that both share.
    printed = call(*RUN, "register", *own)
    assert "update" not in printed.replace("up to date", "")
    assert "version 2 holds these weights" in printed
    checkout = next((project / ".local/checkouts").glob("*-seed-3-*"))
    locks = [yaml.safe_load((root / "dvc.lock").read_text())["stages"] for root in (project, checkout)]
    assert locks[0]["train"] != locks[1]["train"]
    shutil.rmtree(checkout)
    printed = call(*RUN, *own)
    assert "update" not in printed.replace("up to date", "")
