"""Whatever a model writes, an environment takes it: nothing is raised, no process stays behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from envs.base import Env
from envs.hostile import hostile_answer
from envs.registry import make
from envs.vector import VectorEnv, training_seeds
from vldac import parsing

COUNT = 10_000
SIZE: dict[str, Any] = {"width": 24, "height": 24}
# One of each kind, and every game whose rules differ.
ENVIRONMENTS = [
    "MiniWorld-OneRoomS6Fast-v0",
    "MiniWorld-Sign-v0",
    "GymCards-NumberLine-v0",
    "GymCards-EZPoints-v0",
    "GymCards-Points24-v0",
    "GymCards-Blackjack-v0",
    "Pictures-v0",
    "ALFWorld-Small-v0",
    "WebShop-Small-v0",
    "gymnasium:CartPole-v1",
    "gymnasium:Taxi-v4",
]


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_ten_thousand_answers_raise_nothing(env_id: str) -> None:
    env = make(env_id, **SIZE)
    unwrapped, rng = cast(Env, env.unwrapped), np.random.default_rng(0)
    env.reset(seed=0)
    invalid = 0
    for number in range(COUNT):
        answer = parsing.parse_response(hostile_answer(rng, unwrapped.action_names))
        action = None if answer is None else unwrapped.parse_action(answer.action)
        _, reward, terminated, truncated, info = env.step(action)
        assert np.isfinite(float(reward))
        assert info["invalid"] == (action is None)
        invalid += info["invalid"]
        if terminated or truncated:
            env.reset(seed=number)
    assert 0.5 * COUNT < invalid < 0.95 * COUNT
    env.close()


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_a_pool_that_is_fed_nonsense_leaves_no_process_behind(env_id: str) -> None:
    rng, before = np.random.default_rng(1), set(descendants(os.getpid()))
    with VectorEnv(env_id, 2, num_workers=2, seeds=training_seeds(0), **SIZE) as pool:
        pool.reset()
        for _ in range(30):
            parsed = [parsing.parse_response(hostile_answer(rng, names)) for names in pool.action_names]
            step = pool.step([answer.action if answer else None for answer in parsed])
            assert not any(info.get("lost", False) for info in step.infos)
        assert set(descendants(os.getpid())) > before
    assert set(descendants(os.getpid())) == before
