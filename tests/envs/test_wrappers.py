from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from misbehaving_envs import Counter

from envs.base import EVALUATION_SEEDS, Observation, UnsuitableEnvError, begins_by_expert
from envs.gym_cards import NumberLine, Points24
from envs.wrappers import ExpertStart, FrameWindow, RewardScale, TimeLimit


def counts(observation: Observation) -> list[int]:
    return [int(frame[-1, -1, 0]) for frame in observation["frames"]]


def seeds(observation: Observation) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in observation["frames"]]


def test_window_moves_and_never_reaches_over_an_episodes_end() -> None:
    env = FrameWindow(Counter(width=4, height=4), 3)
    for seed in (11, 22, 33):
        observation, _ = env.reset(seed=seed)
        assert counts(observation) == [0, 0, 0]
        for expected in ([0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]):
            observation = env.step(0)[0]
            assert counts(observation) == expected
            assert seeds(observation) == [seed] * 3
            assert observation in env.observation_space


def test_earlier_windows_keep_their_pixels() -> None:
    env = FrameWindow(Counter(width=4, height=4), 2)
    first, _ = env.reset(seed=1)
    copy = first["frames"].copy()
    env.step(0)
    env.reset(seed=2)
    assert np.array_equal(first["frames"], copy)


def test_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FrameWindow(Counter(width=4, height=4), 0)


def play(env: Any, actions: list[int]) -> list[tuple[float, bool, bool, dict[str, Any]]]:
    env.reset(seed=1)
    return [env.step(action)[1:] for action in actions]


def test_the_time_limit_truncates_its_last_step_and_counts_every_episode_anew() -> None:
    env = TimeLimit(Counter(width=4, height=4), 3)
    for _ in range(2):
        steps = play(env, [0, 0, 0])
        assert [step[1:3] for step in steps] == [(False, False), (False, False), (False, True)]
        assert "success" not in steps[1][3]
        assert steps[2][3]["success"] is False


def test_the_time_limit_leaves_the_environments_own_endings_alone() -> None:
    won = play(TimeLimit(Counter(width=4, height=4), 2), [0, 1])[-1]
    assert won[1:] == (True, False, {"invalid": False, "success": True})
    cut = play(TimeLimit(Counter(width=4, height=4), 7), [0] * Counter.limit)[-1]
    assert cut[1:] == (False, True, {"invalid": False, "success": False})


def test_rewards_are_scaled_and_the_environments_own_are_kept() -> None:
    plain = play(Counter(width=4, height=4), [0, 0, 1])
    scaled = play(RewardScale(Counter(width=4, height=4), 0.25), [0, 0, 1])
    for (reward, *_), (smaller, *_, info) in zip(plain, scaled, strict=True):
        assert smaller == 0.25 * reward
        assert info["unscaled_reward"] == reward


def test_limits_and_scales_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        TimeLimit(Counter(width=4, height=4), 0)
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="more than 0"):
            RewardScale(Counter(width=4, height=4), scale)


def numbers(seed: int, share: float) -> tuple[int, int, int]:
    """Target, start and where the episode is handed over, on the number line."""
    game = NumberLine(width=16, height=16)
    game.reset(seed=seed)
    target, start = game.target, game.current
    observation, _ = ExpertStart(game, share).reset(seed=seed)
    assert np.array_equal(observation["frames"][-1], game.render())
    assert game.target == target
    return target, start, game.current


def test_the_expert_walks_uniformly_far_but_never_to_the_goal() -> None:
    left: dict[int, list[int]] = {}
    for seed in range(600):
        target, start, current = numbers(seed, 1.0)
        assert min(start, target) <= current <= max(start, target)
        left.setdefault(abs(target - start), []).append(abs(target - current))
    assert len(left) == 5
    for distance, found in left.items():
        share = [found.count(d) / len(found) for d in range(1, distance + 1)]
        assert sum(share) == pytest.approx(1)  # one step at least is left
        error = (1 / distance * (1 - 1 / distance) / len(found)) ** 0.5
        assert all(abs(each - 1 / distance) < 4 * error + 1e-9 for each in share), (distance, share)


def test_only_a_share_of_training_episodes_begins_by_the_expert() -> None:
    assert sum(begins_by_expert(seed, 0.3) for seed in range(4000)) / 4000 == pytest.approx(0.3, abs=0.03)
    assert not any(begins_by_expert(seed, 1.0) for seed in EVALUATION_SEEDS[:50])
    for seed in (*EVALUATION_SEEDS[:20], *(seed for seed in range(60) if not begins_by_expert(seed, 0.5))):
        _, start, current = numbers(seed, 0.5)
        assert current == start
    assert numbers(8, 1.0) == numbers(8, 1.0)


def test_a_walk_is_part_of_the_environments_time_and_of_no_window() -> None:
    game = NumberLine(width=16, height=16)
    env = FrameWindow(ExpertStart(game, 1.0), 3)
    seed = next(seed for seed in range(100) if abs(numbers(seed, 1.0)[1] - numbers(seed, 1.0)[2]) == 3)
    observation, _ = env.reset(seed=seed)
    assert game.steps == 3
    assert all(np.array_equal(frame, game.render()) for frame in observation["frames"])


def test_an_environment_without_an_expert_cannot_begin_so() -> None:
    with pytest.raises(UnsuitableEnvError, match=r"Counter has no expert.*env\.expert_start to 0"):
        ExpertStart(Counter(width=4, height=4), 1.0)
    with pytest.raises(ValueError, match="share is 2"):
        ExpertStart(NumberLine(width=4, height=4), 2)


def test_starts_of_which_the_expert_knows_nothing_stay_as_they_are() -> None:
    game = Points24(width=16, height=16)
    env = ExpertStart(game, 1.0)
    unsolvable = 0
    for seed in range(80):
        game.reset(seed=seed)
        known = game.expert_action() is not None
        env.reset(seed=seed)
        assert known or not game.formula
        unsolvable += not known
    assert unsolvable > 5

    class Lost(NumberLine):
        def expert_action(self) -> str | None:
            return None

    lost = ExpertStart(Lost(width=16, height=16), 1.0)
    for seed in range(19):
        lost.reset(seed=seed)
    with pytest.raises(UnsuitableEnvError, match="Lost has no expert"):
        lost.reset(seed=19)
