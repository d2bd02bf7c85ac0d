from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from envs.base import EVALUATION_SEEDS, Observation
from envs.gym_cards import NumberLine
from vldac import policy
from vldac.evaluation import episodes, filmstrip
from vldac.evaluation.episodes import Episode, Reply, evaluate, random_policy, summarize, write_episodes
from vldac.evaluation.statistics import wilson_interval


def expert(observations: Sequence[Observation], *_: object) -> list[Reply]:
    """Reads the picture by comparing it with every picture that there is."""
    return [Reply("", "+" if PICTURES[o["frames"][-1].tobytes()] > 0 else "-") for o in observations]


def pictures() -> dict[bytes, int]:
    game, found = NumberLine(width=32, height=32), {}
    for game.target in range(6):
        for game.current in range(6):
            found[game.render().tobytes()] = game.target - game.current
    return found


PICTURES = pictures()


def silent(observations: Sequence[Observation], *_: object) -> list[Reply]:
    return [Reply("no idea", None) for _ in observations]


def expected_length(seed: int) -> int:
    game = NumberLine(width=32, height=32)
    game.reset(seed=seed)
    return abs(game.target - game.current)


@pytest.mark.parametrize("simulators", [1, 3, 7, 32])
def test_every_evaluation_seed_is_played_once_however_many_simulators_there_are(
    tiny_config: Any, simulators: int
) -> None:
    config = tiny_config({"evaluate": {"num_envs": simulators}})
    episodes = evaluate(config, expert, 10, "expert")
    assert [e.seed for e in episodes] == list(EVALUATION_SEEDS[:10])
    # Each of them in full: a simulator that is done stands still and adds nothing to another's episode.
    assert [e.length for e in episodes] == [expected_length(e.seed) for e in episodes]
    assert all(e.success and e.episode_return == 1.0 and e.invalid == 0 for e in episodes)
    assert all(len(e.replies) == e.length for e in episodes)


def test_only_the_first_episodes_keep_their_frames_one_more_than_steps(tiny_config: Any) -> None:
    episodes = evaluate(tiny_config(), expert, 10, "expert")
    assert [len(e.frames) for e in episodes[:8]] == [e.length + 1 for e in episodes[:8]]
    assert not any(e.frames for e in episodes[8:])
    for episode in episodes[:8]:
        distances = [abs(PICTURES[frame.tobytes()]) for frame in episode.frames]
        assert distances == list(range(episode.length, -1, -1))  # no frame of another episode, the goal in the last


def test_an_idle_simulator_is_not_asked(tiny_config: Any) -> None:
    asked: list[int] = []

    def counting(observations: Sequence[Observation], action_names: Sequence[Sequence[str]], *_: object) -> list[Reply]:
        assert list(action_names) == [("-", "+")] * len(observations)
        asked.append(len(observations))
        return expert(observations)

    episodes = evaluate(tiny_config({"evaluate": {"num_envs": 4}}), counting, 6, "counting")
    assert sum(asked) == sum(e.length for e in episodes)
    assert asked[-1] < 4


def test_unreadable_answers_cost_the_penalty_and_are_counted(tiny_config: Any) -> None:
    episodes = evaluate(tiny_config(), silent, 6, "silent")
    assert {(e.success, e.length, e.invalid, e.episode_return) for e in episodes} == {(False, 10, 10, -10.0)}
    summary = summarize(episodes)
    assert (summary["success"], summary["invalid_actions"], summary["steps_to_goal"]) == (0.0, 1.0, 10.0)


def test_the_random_policy_succeeds_as_often_as_a_random_walk(tiny_config: Any) -> None:
    config = tiny_config()
    summary = summarize(evaluate(config, random_policy(0), 200, "random"))
    # Exactly: the chance of a lazy-walled walk on 0..5 to hit its target in ten steps, over the evaluated seeds.
    chance = np.mean([hitting_chance(*start(seed)) for seed in EVALUATION_SEEDS[:200]])
    low, high = summary["success_ci"]
    assert low - 0.05 < chance < high + 0.05
    assert 0.3 < chance < 0.9
    assert summary["invalid_actions"] == 0


def start(seed: int) -> tuple[int, int]:
    game = NumberLine(width=32, height=32)
    game.reset(seed=seed)
    return game.current, game.target


def hitting_chance(current: int, target: int, steps: int = 10) -> float:
    where = np.eye(6)[current]
    hit = 0.0
    for _ in range(steps):
        after = np.zeros(6)
        for i in range(6):
            after[max(i - 1, 0)] += where[i] / 2
            after[min(i + 1, 5)] += where[i] / 2
        hit += after[target]
        after[target] = 0
        where = after
    return hit


def test_success_is_told_apart_by_task() -> None:
    episodes = [episode(i, task="a" if i < 3 else "b", success=i != 1) for i in range(5)]
    tasks = summarize(episodes)["tasks"]
    assert {name: (t["success"], t["episodes"]) for name, t in tasks.items()} == {"a": (2 / 3, 3), "b": (1.0, 2)}
    assert tasks["b"]["success_ci"] == list(wilson_interval(2, 2))
    assert "tasks" not in summarize([episode(0)])


def episode(seed: int, **changes: Any) -> Episode:
    values = {
        "success": True,
        "episode_return": 1.0,
        "length": 4,
        "invalid": 1,
        "task": None,
        "replies": ['{"action": "+"}'] * 4,
    }
    return Episode(seed=seed, **{**values, **changes})


def test_a_summary_counts_failures_with_every_step_they_took() -> None:
    failed = episode(3, success=False, episode_return=-2.0, length=10, invalid=0)
    summary = summarize([episode(1), episode(2), failed])
    assert summary == {
        "success": pytest.approx(2 / 3),
        "success_ci": pytest.approx(list(wilson_interval(2, 3))),
        "return": pytest.approx(0.0),
        "return_standard_error": pytest.approx(np.std([1, 1, -2], ddof=1) / np.sqrt(3)),
        "steps_to_goal": 6.0,
        "invalid_actions": pytest.approx(2 / 18),
        "episodes": 3,
    }


def test_a_summary_of_no_episode_is_refused() -> None:
    with pytest.raises(RuntimeError, match="lost with its simulator"):
        summarize([])


def test_episodes_are_written_one_a_line_without_their_frames(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "episodes.jsonl"
    write_episodes(path, [episode(1, frames=[np.zeros((4, 4, 3), np.uint8)]), episode(2)])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["seed"] for row in rows] == [1, 2]
    assert rows[0].keys() == {"seed", "success", "episode_return", "length", "invalid", "task", "replies"}


def filmed(seed: int, length: int, *, success: bool = True, text: str = '{"action": "+"}') -> Episode:
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(length + 1)]
    return episode(seed, success=success, length=length, replies=[text] * length, frames=frames)


def test_a_filmstrip_shows_a_hard_success_and_a_failure_with_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[filmstrip.Strip] = []
    monkeypatch.setattr(filmstrip, "draw_strips", lambda path, heading, strips: drawn.extend(strips))
    before = [filmed(1, 5), filmed(2, 30, success=False), filmed(3, 30, success=False)]
    after = [filmed(1, 5), filmed(2, 12), filmed(3, 30, success=False)]
    filmstrip.draw(tmp_path / "film.png", "Env", {"base model": before, "trained model": after})
    assert [strip.title for strip in drawn] == [
        "seed 2, base model: failed after 30 steps",
        "seed 2, trained model: reached the goal after 12 steps",
        "seed 3, base model: failed after 30 steps",
        "seed 3, trained model: failed after 30 steps",
    ]
    assert filmstrip._shown(13) == [0, 1, 2, 3, 8, 9, 10, 11, 12]  # the goal is the last one
    assert filmstrip._shown(9) == list(range(9))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([filmed(1, 30, success=False, text="not json $x_1$ \\n")], [filmed(1, 5)]),
        ([filmed(1, 1)], [filmed(1, 1)]),
        ([filmed(1, 40, success=False), filmed(2, 3)], [filmed(1, 40, success=False), filmed(2, 3)]),
        ([filmed(1, 3), filmed(2, 3)], [filmed(2, 3)]),
    ],
    ids=["a failure and a success", "one step", "a success and a failure", "an episode that was lost"],
)
def test_a_filmstrip_is_a_picture(tmp_path: Path, before: list[Episode], after: list[Episode]) -> None:
    path = tmp_path / "plots" / "film.png"
    filmstrip.draw(path, "Env", {"base model": before, "trained model": after})
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 100
        assert image.height > 100
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50  # something was drawn


@pytest.mark.slow
def test_the_command_benchmarks_random_base_and_trained_policies(
    tiny_base: Path, tiny_config: Any, tiny_params_file: Any, tmp_path: Path
) -> None:
    config = tiny_config()
    vlm = policy.load_base(tiny_base, config.model)
    vlm.add_adapter(4, 8)
    description = {"adapter": True, "config": config.model_dump(mode="json")}
    policy.save(tmp_path / "policy", vlm, None, description)
    places = {"base": tiny_base, "policy": tmp_path / "policy", "out": tmp_path / "m" / "summary.json"}
    places |= {"episodes-dir": tmp_path / "episodes", "filmstrip": tmp_path / "film.png", "params": tiny_params_file()}
    assert episodes.main([word for name, path in places.items() for word in (f"--{name}", str(path))]) == 0
    summary = json.loads(places["out"].read_text())
    for name in ("random", "base", "trained"):
        assert {"success", "success_ci", "return", "steps_to_goal", "episodes"} <= summary[name].keys()
        assert summary[name]["episodes"] == 6
        assert len((tmp_path / "episodes" / f"{name}.jsonl").read_text().splitlines()) == 6
    assert places["filmstrip"].exists()


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is $\\boxed{left}$.",
        '{"thoughts": "$\\\\boxed{24}$", "action": "$x$"}',
        '{"thoughts": "a \\ud83d b", "action": "left"}',
        '{"thoughts": "\\u0000\\u5e97", "action": "left"}',
    ],
)
def test_whatever_a_model_writes_can_be_drawn(reply: str, tmp_path: Path) -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    strip = filmstrip.Strip("$\\frac$", [frame], [filmstrip.caption(reply)])
    filmstrip.draw_strips(tmp_path / "strip.png", "world", [strip])
    assert (tmp_path / "strip.png").stat().st_size > 1000
