"""`vldac watch` finds the policy and its base, and plays in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.commands import cli
from pipelines.evaluation import watching


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.chdir(tmp_path)
    for name, file in (("policy", "vldac.json"), ("base", "config.json")):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / file).write_text(
            json.dumps({"adapter": True, "config": {"model": {"base": "tiny"}, "extensions": "own/code"}})
        )
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> SimpleNamespace:
        assert str(tmp_path / "own/code") in str(options["env"])  # as the policy has recorded
        commands.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(watching.subprocess, "run", run)
    return commands


def test_the_pipelines_policy_is_the_default(started: list[list[str]]) -> None:
    assert cli.call(["watch"]) == 3
    assert started[0][:3] == [sys.executable, "-m", "vldac.evaluation.watch"]
    assert " ".join(started[0][3:]) == (
        "--base models/base --policy models/policy --name models/policy --episodes 8 --out watch"
    )


def test_options_reach_the_player(started: list[list[str]]) -> None:
    words = ["--base", "--env", "GymCards-NumberLine-v0", "--seed", "3", "4", "--episodes", "2", "--out", "here"]
    assert cli.call(["watch", "models/policy", *words]) == 3
    assert " ".join(started[0]).endswith(
        "--episodes 2 --out here --env GymCards-NumberLine-v0 --seed 3 4 --beside-base"
    )


def test_an_environment_that_is_not_there_is_one_line_before_anything_is_loaded(
    started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(["watch", "--env", "NumberLine"]) == 1
    assert capsys.readouterr().err.startswith("error: unknown environment 'NumberLine'; did you mean ")
    assert started == []
    assert cli.call(["watch", "--env", "numberline"]) == 3  # a preset
    assert started[0][-2:] == ["--env", "numberline"]


def test_what_is_no_policy_is_one_line(started: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["watch", "models/base"]) == 1
    assert capsys.readouterr().err == (
        "error: models/base holds no trained policy; train one with `vldac run`, or name another\n"
    )
    assert started == []
