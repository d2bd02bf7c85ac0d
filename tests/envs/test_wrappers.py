from __future__ import annotations

import numpy as np
import pytest
from misbehaving_worlds import Counter

from envs.wrappers import FrameWindow


def counts(observation: dict) -> list[int]:
    return [int(frame[-1, -1, 0]) for frame in observation["frames"]]


def seeds(observation: dict) -> list[int]:
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
