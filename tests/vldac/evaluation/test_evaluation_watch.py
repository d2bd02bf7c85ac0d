"""Watching a policy: what is played, chosen, looked into and written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from envs.base import EVALUATION_SEEDS, UnknownEnvError
from envs.registry import make
from vldac import parsing
from vldac.config import EnvConfig
from vldac.evaluation import watch
from vldac.evaluation.choice import choose
from vldac.evaluation.watch import Episode, Player, Step, load_players
from vldac.parsing import ParsedResponse
from vldac.utils import progress


def data_of(page: Path) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    return json.loads(text)


@pytest.fixture(scope="module")
def players(tiny_policy: Path, tiny_base: Path) -> list[Player]:
    return load_players(str(tiny_base), tiny_policy, "mine", beside_base=True)


def episodes(players: list[Player], count: int = 3) -> list[Episode]:
    env = make("GymCards-NumberLine-v0", width=32, height=32, prompt="terse")
    return [players[0].play(env, seed) for seed in EVALUATION_SEEDS[:count]]


def test_a_seed_gives_the_same_episode_whatever_was_played_before(players: list[Player]) -> None:
    env = make("GymCards-NumberLine-v0", width=32, height=32, prompt="terse")
    first = [step.decision.text for step in players[0].play(env, EVALUATION_SEEDS[0]).steps]
    assert [step.decision.text for step in players[0].play(env, EVALUATION_SEEDS[1]).steps] != first
    assert [step.decision.text for step in players[0].play(env, EVALUATION_SEEDS[0]).steps] == first
    # The adapter is the identity: base and policy draw the same from the same state.
    assert [step.decision.text for step in players[1].play(env, EVALUATION_SEEDS[0]).steps] == first


def test_tokens_make_up_the_response_and_have_the_probabilities_they_were_drawn_with(players: list[Player]) -> None:
    episode = episodes(players, 1)[0]
    panel = players[0].explain(episode)
    for step, turn in zip(episode.steps, panel.turns, strict=True):
        assert "".join(token.text for token in turn.answer.tokens) == step.decision.text
        drawn = step.decision.response.log_probs.exp().tolist()[: len(turn.answer.tokens)]
        assert [token.probability for token in turn.answer.tokens] == pytest.approx(drawn)
        assert turn.answer.value == pytest.approx(0.25)
        assert (turn.reward, turn.legal, turn.answer.action) == (step.reward, step.legal, step.decision.action)
    assert players[1].explain(episode).turns[0].answer.value is None
    assert panel.episode_return == pytest.approx(sum(step.reward for step in episode.steps))


def test_probabilities_of_actions_are_those_of_their_answers_scored_one_by_one(players: list[Player]) -> None:
    player = players[0]
    steps = [step for episode in episodes(players) for step in episode.steps]
    read = [step for step in steps if step.decision.parsed is not None]
    assert read
    for step in read[:3]:
        shares = dict(player.explain(Episode(0, True, (step,), np.zeros((2, 2, 3), np.uint8))).turns[0].answer.actions)
        parsed = cast(ParsedResponse, step.decision.parsed)
        chances = {}
        for name in ("-", "+"):
            ids = player.vlm.encode_response(parsing.render_response(ParsedResponse(parsed.thoughts, name)))
            with torch.no_grad():
                scores = player.vlm([step.decision.prompt], [ids], player.config.rollout.temperature)
            chances[name] = float(scores.log_probs.sum().exp())
        total = sum(chances.values())
        assert shares == pytest.approx({name: chance / total for name, chance in chances.items()}, rel=1e-3)
    broken = [step for step in steps if step.decision.parsed is None]
    for step in broken[:1]:
        assert player._turn(step).answer.actions == ()


def played(success: bool, length: int, reward: float = 0.0) -> Episode:
    step = cast(Step, type("Fake", (), {"reward": reward})())
    return Episode(0, success, (step,) * length, np.zeros((2, 2, 3), np.uint8))


def test_the_hardest_success_and_the_nearest_failure_are_chosen() -> None:
    alone = [(played(True, 2),), (played(True, 5),), (played(False, 9, -1.0),), (played(False, 9, -0.1),)]
    assert choose(alone) == [1, 3]
    assert choose(alone[:2]) == [1]
    assert choose(alone[2:]) == [1]
    both = [
        (played(True, 9), played(True, 9)),
        (played(True, 3), played(False, 9)),  # where the base failed
        (played(False, 9, 0.5), played(False, 9)),
        (played(False, 9, -0.5), played(True, 9)),  # what was unlearned
    ]
    assert choose(both) == [1, 3]


def test_the_command_writes_the_page_and_the_gif(
    tiny_policy: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--policy", str(tiny_policy), "--base", str(tiny_base), "--name", "mine", "--out", str(tmp_path)]
    assert watch.main([*where, "--beside-base", "--episodes", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith("seed ")]) == 2
    data = data_of(tmp_path / "index.html")
    assert {panel["label"] for show in data["episodes"] for panel in show["panels"]} == {"trained: mine", "base"}
    assert (tmp_path / "episodes.gif").stat().st_size > 0
    assert watch.main([*where, "--seed", "7", "--env", "GymCards-Blackjack-v0"]) == 0
    data = data_of(tmp_path / "index.html")
    assert [show["seed"] for show in data["episodes"]] == [7]
    assert "GymCards-Blackjack-v0, tiny (qwen2_vl)" in (tmp_path / "index.html").read_text()
    assert watch.main([*where, "--seed", "7", "--env", "points24"]) == 0  # a preset
    assert "points24, tiny (qwen2_vl)" in (tmp_path / "index.html").read_text()
    with pytest.raises(watch.UserError, match="give a number from 0 to 2147483647"):
        watch.main([*where, "--seed", "-7"])
    with pytest.raises(watch.UserError, match="at least one episode"):
        watch.main([*where, "--episodes", "0"])


def test_nothing_of_it_is_silent_for_long(
    tiny_policy: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(progress.TO_PARENT, "1")
    where = ["--policy", str(tiny_policy), "--base", str(tiny_base), "--out", str(tmp_path)]
    assert watch.main([*where, "--beside-base", "--seed", "7"]) == 0
    lines = [line for line in capsys.readouterr().out.split("\n") if line.startswith(progress.MARK)]
    said = [json.loads(line.removeprefix(progress.MARK)) for line in lines]
    begun = [(one["label"], one["total"]) for one in said if one and one["done"] == 0]
    assert begun == [("loading the model", None), ("playing", 2), ("looking into the answers", 2)]


def test_an_environment_is_made_before_a_model_is_loaded(
    tiny_policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "load_players", lambda *_, **__: pytest.fail("a model is loaded"))
    with pytest.raises(UnknownEnvError, match="unknown environment 'pints24'"):
        watch.main(["--policy", str(tiny_policy), "--env", "pints24", "--out", str(tmp_path)])


def test_an_environment_is_shown_as_the_policys_own_and_has_its_own_rules() -> None:
    own = EnvConfig(id="GymCards-Points24-v0", width=40, max_steps=7, expert_start=0.5, options={"solvable_only": True})
    assert watch.chosen(None, own, Path.cwd()) is watch.chosen(own.id, own, Path.cwd()) is own
    assert watch.make_options(own, own) == own.make_options | {"expert_start": 0.0}
    for name, options in (("GymCards-Blackjack-v0", {}), ("points24", {"solvable_only": True})):
        other = watch.chosen(name, own, Path.cwd())
        made = watch.make_options(own, other)
        assert (made["width"], made["max_steps"], made["options"]) == (40, None, options)
