"""Whatever a model writes, an environment takes it: nothing is raised, no process stays behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from envs.base import Env
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
]
ALPHABET = list('{}[]":,\\ \n\t\0abcZ019.-+*/=()<>&é漢🙂\u202e\ud7ff')


def hostile(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    """One answer of a model that is broken in one of many ways, or not at all."""

    def noise(most: int) -> str:
        return "".join(rng.choice(ALPHABET, size=int(rng.integers(0, most))))

    name = names[int(rng.integers(len(names)))]
    good = json.dumps({"thoughts": noise(12), "action": name})
    kinds = [
        lambda: noise(40),
        lambda: good,
        lambda: good[: int(rng.integers(len(good)))],
        lambda: good.replace(name, name + noise(6)),
        lambda: json.dumps({"action": rng.choice(np.array([None, True, 1e999, 7, -3]), size=1)[0]}, default=str),
        lambda: '{"action": ' + "[" * int(rng.integers(1, 3000)),
        lambda: json.dumps({"action": name * int(rng.integers(2, 200))}),
        lambda: json.dumps({"action": f"search[{noise(30)}]"}),
        lambda: json.dumps({"action": f"click[{noise(30)}]"}),
        lambda: "__import__('os').system('true')",
        lambda: json.dumps({"action": f"go to {noise(9)}"}),
    ]
    return str(kinds[int(rng.integers(len(kinds)))]())


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_ten_thousand_answers_raise_nothing(env_id: str) -> None:
    env = make(env_id, **SIZE)
    unwrapped, rng = cast(Env, env.unwrapped), np.random.default_rng(0)
    env.reset(seed=0)
    invalid = 0
    for number in range(COUNT):
        answer = parsing.parse_response(hostile(rng, unwrapped.action_names))
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
            parsed = [parsing.parse_response(hostile(rng, names)) for names in pool.action_names]
            step = pool.step([answer.action if answer else None for answer in parsed])
            assert not any(info.get("lost", False) for info in step.infos)
        assert set(descendants(os.getpid())) > before
    assert set(descendants(os.getpid())) == before
