"""`vldac envs check`: a verdict a line, and a failure for each way of breaking the interface."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.gym_cards import NumberLine
from pipelines.commands import cli, environments
from pipelines.core.errors import PipelineError

LINE = "GymCards-NumberLine-v0"


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_HOSTILE", 60)
    monkeypatch.setattr(environments, "_TIMED", 0.01)
    monkeypatch.setattr(sys, "path", [*sys.path])


def verdicts(env_id: str = LINE, **options: Any) -> dict[str, tuple[str, str]]:
    found = environments.check(env_id, **{"episodes": 3, **options})
    return {text.partition(": ")[0]: (verdict, text.partition(": ")[2]) for verdict, text in found}


def test_each_check_is_a_line_with_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["envs", "check", LINE, "--episodes", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ", 1)[1].strip().partition(":")[0] for line in lines] == list(environments.CHECKS)
    assert all(line.startswith("ok ") for line in lines)
    assert lines[0].startswith("ok    observations: frames (1, 48, 64, 3) uint8, prompt of ")
    assert "success 1.00 [0.44, 1.00] over 3 episodes, return 1.00, " in lines[-1]


def test_where_there_is_no_expert_nothing_is_claimed() -> None:
    assert verdicts("MiniWorld-PutNext-v0", episodes=1)["expert"] == ("-", "none")


def test_a_slow_player_stops_early_and_says_how_many_episodes_it_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_PATIENCE", 0.0)
    assert "over 1 episode, " in verdicts()["random player"][1]


def forget_invalid(self: NumberLine, action: Any) -> Any:
    *result, info = STEP(self, action)
    return (*result, {key: value for key, value in info.items() if key != "invalid"})


def forget_success(self: NumberLine, action: Any) -> Any:
    *result, info = STEP(self, action)
    return (*result, {"invalid": info["invalid"]})


def reward_nothing_known(self: NumberLine, action: Any) -> Any:
    observation, _, *rest = STEP(self, action)
    return (observation, float("nan"), *rest)


def draw_elsewhere(self: NumberLine, action: Any) -> Any:
    observation, _, *rest = STEP(self, action)
    return (observation, float(np.random.default_rng().random()), *rest)


def fail(self: NumberLine, action: Any) -> Any:
    raise ZeroDivisionError("on purpose")


STEP = NumberLine.step


@pytest.mark.parametrize(
    ("attribute", "broken", "where", "said"),
    [
        ("step", forget_invalid, "hostile answers", "`invalid` in info must say"),
        ("step", forget_success, "random player", "`success` in info of an episode's last step"),
        ("step", reward_nothing_known, "hostile answers", "a reward is nan"),
        ("step", draw_elsewhere, "repeats", "gave something else at step 1; draw from `np_random`"),
        ("step", fail, "speed", "ZeroDivisionError: on purpose"),
        ("render", lambda _: np.zeros((48, 64, 3), np.uint8), "observations", "renders an empty picture"),
        ("render", lambda _: np.eye(48, 63, dtype=np.uint8)[..., None], "observations", "an observation is not of"),
        ("parse_action", lambda _, text: 0, "actions", "takes an empty text for an action"),
        ("parse_action", lambda _, text: None, "actions", "'-' is in `action_names`, but"),
    ],
)
def test_what_breaks_the_interface_is_told_and_the_other_checks_go_on(
    attribute: str,
    broken: Any,
    where: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(NumberLine, attribute, broken)
    found = verdicts()
    assert found.keys() == environments.CHECKS.keys()
    assert found[where][0] == "FAIL"
    assert said in found[where][1]
    assert cli.call(["envs", "check", LINE, "--episodes", "1"]) == 1
    assert "FAIL  " in capsys.readouterr().out


def test_ones_own_a_preset_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("extensions").mkdir()
    Path("extensions/own_line.py").write_text("from envs.gym_cards import NumberLine\n\nclass Own(NumberLine): ...\n")
    assert verdicts("own_line:Own")["observations"][0] == "ok"
    assert "frames (1, 64, 64, 3)" in verdicts("numberline")["observations"][1]
    assert verdicts("gymnasium:FrozenLake-v1", options="{actions: 'w, s, e, n'}")["actions"] == ("ok", "4: w, s, e, n")
    with pytest.raises(PipelineError, match="has no option 'size'"):
        verdicts(options="size: 3")
    with pytest.raises(PipelineError, match="give a mapping"):
        verdicts(options="3")
    with pytest.raises(PipelineError, match="not valid YAML"):
        verdicts(options="{")
    with pytest.raises(PipelineError, match="at least one episode"):
        verdicts(episodes=0)
    with pytest.raises(PipelineError, match=r"unknown environment 'GymCards-NumberLin-v0'; did you mean"):
        verdicts("GymCards-NumberLin-v0")
