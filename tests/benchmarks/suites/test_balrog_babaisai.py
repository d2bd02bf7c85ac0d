from __future__ import annotations

import random
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.suites.balrog import tasks


@dataclass
class Cell:
    type: str
    name: str = ""
    property: str = ""


class Level:
    """A level of 6 x 4 in the manner of the package: global random draws, old step results."""

    width, height, max_steps = 6, 4, 100

    def __init__(self) -> None:
        self.grid: Any = types.SimpleNamespace(get=lambda x, y: self.cells.get((x, y)), _ruleset=defaultdict(dict))
        self.cells: dict[tuple[int, int], Cell] = {}

    def reset(self) -> None:
        self.x = int(np.random.choice(3)) + 1
        self.resets = getattr(self, "resets", 0) + 1
        self.luck = random.random()
        self.cells = {
            (self.x, 2): Cell("baba"),
            (0, 0): Cell("rule_object", name="baba"),
            (1, 0): Cell("rule_is", name="is"),
            (2, 0): Cell("rule_property", property="is_agent"),
            (5, 3): Cell("fball"),
            (self.x, 0): Cell("fwall"),
            (0, 3): Cell("wall"),
        }
        self.grid._ruleset = defaultdict(dict)
        self.grid._ruleset["_rule_"] = [
            {"object": "baba", "property": "is_agent"},
            {"object": "fball", "property": "is_goal"},
            {"object1": "fkey", "object2": "fdoor"},
        ]

    def step(self, action: int) -> tuple[None, float, bool, dict[str, Any]]:
        if action == 1:
            self.grid._ruleset["_rule_"] = [{"object": "fball", "property": "is_goal"}]
            return None, 0.0, False, {}
        return None, (0.5 if action == 2 else -1.0 if action == 3 else 0.0), action in (2, 3), {}

    def render(self, mode: str) -> np.ndarray:
        assert mode == "rgb_array"
        return np.full((256, 256, 3), self.x, np.uint8)


@pytest.fixture(autouse=True)
def baba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package, objects = types.ModuleType("baba"), types.ModuleType("baba.world_object")
    names = {"is": "is", "is_agent": "you", "is_goal": "win", "is_stop": "stop"}
    package.make = lambda task: Level()  # type: ignore[attr-defined]
    objects.name_mapping = names  # type: ignore[attr-defined]
    package.world_object = objects  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "baba", package)
    monkeypatch.setitem(sys.modules, "baba.world_object", objects)
    monkeypatch.delitem(sys.modules, "benchmarks.suites.balrog.babaisai", raising=False)
    monkeypatch.setattr(tasks, "missing_packages", lambda name: [])
    yield
    sys.modules.pop("benchmarks.suites.balrog.babaisai", None)


def test_the_map_is_told_from_the_players_place() -> None:
    env = tasks.make("babaisai", "env/goto_win")
    for seed in range(20):
        observation = env.reset(seed)
        if env._game.x == 3:  # type: ignore[attr-defined]
            break
    # To the left and up the original never says "steps".
    assert observation.long_term_context == (
        "Active rules:\nbaba is you\nball is win\n\nObjects on the map:\n"
        "rule `baba` 3 step to the left and 2 step up\n"
        "rule `is` 2 step to the left and 2 step up\n"
        "rule `you` 1 step to the left and 2 step up\n"
        "wall 2 step up\n"
        "ball 2 steps to the right and 1 step down"
    )
    assert observation.image is not None
    assert observation.image.shape == (256, 256, 3)


def test_a_level_without_a_player_begins_again() -> None:
    env = tasks.make("babaisai", "env/goto_win")
    env.reset(0)
    observation, _, terminated, _ = env.step("up")
    assert not terminated
    assert env._game.resets == 2  # type: ignore[attr-defined]
    assert observation.long_term_context.startswith(
        "[...] IS YOU rule was broken, environment resetActive rules:\nball is win\n\nObjects on the map:\n"
        "Active rules:\nbaba is you\nball is win\n\nObjects on the map:\n"
    )


@pytest.mark.parametrize(("action", "worth", "done"), [("right", 1.0, True), ("down", 0.0, True), ("left", 0.0, False)])
def test_an_episode_is_worth_one_where_it_ends_with_a_reward(action: str, worth: float, done: bool) -> None:
    env = tasks.make("babaisai", "env/goto_win")
    env.reset(0)
    assert env.step(action)[2:] == (done, False)
    assert env.progression() == worth


def test_the_same_seed_is_the_same_level_and_global_randomness_is_left_alone() -> None:
    env, other = tasks.make("babaisai", "env/goto_win"), tasks.make("babaisai", "env/goto_win")
    random.seed(3)
    np.random.seed(3)
    state = random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    first = env.reset(9)
    luck = env._game.luck  # type: ignore[attr-defined]
    other.reset(4)
    env.step("up")  # draws a new level from the episode's own state
    assert random.getstate() == state[0]
    assert np.array_equal(np.random.get_state()[1], state[1])  # type: ignore[index]
    again = env._game.luck  # type: ignore[attr-defined]
    assert other.reset(9).long_term_context == first.long_term_context
    assert other._game.luck == luck  # type: ignore[attr-defined]
    random.random()
    other.step("up")
    assert other._game.luck == again != luck  # type: ignore[attr-defined]


def test_the_interface_is_the_protocols() -> None:
    env = tasks.make("babaisai", "env/make_win")
    env.reset(0)
    assert env.actions == ("idle", "up", "right", "down", "left")
    assert (env.max_steps, env.check("jump"), env.check("up")) == (100, "idle", "up")
    assert all(f"\n{action}: " in env.instruction() for action in env.actions)
