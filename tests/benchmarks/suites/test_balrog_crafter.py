from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from crafter import constants

from benchmarks.suites.balrog.crafter import _GOALS, ACHIEVEMENTS, Crafter
from benchmarks.suites.balrog.crafter_text import describe_inventory, describe_scene, describe_state, names

GRASS, WATER, TREE, COW = (names().index(name) for name in ("grass", "water", "tree", "cow"))
PLAYER = names().index("player")


def scene(*things: tuple[int, int, int], at: tuple[int, int] = (10, 10), facing: tuple[int, int] = (0, 1)) -> str:
    semantic = np.full((20, 20), WATER, np.uint8)
    for number, x, y in things:
        semantic[x, y] = number
    semantic[at] = PLAYER
    return describe_scene(semantic, at, facing, (9, 9))


def test_numbers_of_the_semantic_map_are_materials_then_creatures() -> None:
    assert names()[0] == "None"
    assert list(names()[1:13]) == constants.materials
    assert names()[13:] == ("player", "cow", "zombie", "skeleton", "arrow", "plant")


def test_the_nearest_of_each_kind_is_told_in_the_order_of_columns() -> None:
    things = ((TREE, 7, 8), (TREE, 12, 11), (COW, 6, 13))
    assert scene(*things) == (
        "You see:\n- water 1 step to your west\n- cow 7 steps to your south-west\n"
        "- tree 3 steps to your south-east\n\nYou face water at your front."
    )


def test_of_two_as_near_the_first_column_is_told_and_north_comes_before_west() -> None:
    assert "- tree 2 steps to your north-west" in scene((TREE, 9, 9), (TREE, 11, 11))


@pytest.mark.parametrize(
    ("x", "y", "seen"), [(6, 10, True), (5, 10, False), (14, 10, True), (15, 10, False), (10, 7, True), (10, 6, False),
                         (10, 13, True), (10, 14, False)]
)  # fmt: skip
def test_the_view_reaches_four_columns_and_three_rows(x: int, y: int, seen: bool) -> None:
    assert ("cow" in scene((COW, x, y))) is seen


@pytest.mark.parametrize("at", [(3, 10), (10, 2)])
def test_at_the_western_and_northern_edges_the_original_sees_nothing(at: tuple[int, int]) -> None:
    assert scene(at=at) == "You see nothing away from you.\n\nYou face nothing at your front."


def test_at_the_eastern_edge_the_rest_is_seen() -> None:
    assert scene(at=(19, 10), facing=(1, 0)).endswith("\n\nYou face nothing at your front.")
    assert "water 1 step to your west" in scene(at=(19, 10))


def test_the_status_is_told_out_of_nine_and_nothing_carried_is_told_too() -> None:
    inventory = {"health": 9, "food": 8, "drink": 0, "energy": 3, "wood": 2, "stone": 0}
    status = "Your status:\n- health: 9/9\n- food: 8/9\n- drink: 0/9\n- energy: 3/9\n\n"
    assert describe_inventory(inventory) == status + "Your inventory:\n- wood: 2"
    assert describe_inventory(inventory | {"wood": 0}) == status + "You have nothing in your inventory."


def test_sleep_and_death_come_first_and_sleep_before_death() -> None:
    assert describe_state(False, 9) == ""
    assert describe_state(False, 0).startswith("You died.\n\n")
    assert describe_state(True, 0).startswith("You are sleeping")


def played(seed: int, count: int) -> list[object]:
    env, rng = Crafter(), random.Random(1)
    seen: list[object] = []
    observation = env.reset(seed)
    for _ in range(count):
        assert observation.image is not None
        seen.append((observation.long_term_context, observation.short_term_context, observation.image.tobytes()))
        observation, reward, terminated, _ = env.step(rng.choice(env.actions))
        seen.append((reward, env.progression()))
        if terminated:
            break
    return seen


def test_the_same_seed_and_actions_are_the_same_game_and_leave_global_randomness_alone() -> None:
    first = played(3, 20)
    np.random.seed(5)
    state = np.random.get_state()[1].copy()  # type: ignore[index]
    assert played(3, 20) == first
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]


@pytest.fixture(scope="module")
def environment() -> Crafter:
    env = Crafter()
    env.reset(0)
    return env


def test_which_creature_vanishes_does_not_depend_on_the_order_of_a_set(environment: Crafter) -> None:
    env = environment
    game = env._game
    chunk, creatures = max(game._world.chunks.items(), key=lambda item: len(item[1]))
    given: list[object] = []
    base: Any = type(game).__mro__[1]
    original = base._balance_chunk
    base._balance_chunk = lambda self, chunk, objs: given.extend(objs)
    try:
        game._balance_chunk(chunk, creatures)
    finally:
        base._balance_chunk = original
    assert given == [thing for thing in game._world.objects if thing in creatures]
    assert len(given) > 1


def test_achievements_count_out_of_22(environment: Crafter) -> None:
    env = environment
    assert env.progression() == 0.0
    env._game._player.inventory["sapling"] = 1
    env._game._world[env._game._player.pos + env._game._player.facing] = "grass"
    _, reward, _, _ = env.step("Place Plant")
    assert reward >= 0.9
    assert env.progression() == 1 / 22
    env.step("Noop")
    assert env.progression() == 1 / 22
    assert len(_GOALS) == ACHIEVEMENTS == len(constants.achievements)
    assert {goal.lower().replace(" ", "_") for goal in _GOALS} == set(constants.achievements)


def test_the_interface_is_the_protocols(environment: Crafter) -> None:
    env = environment
    observation, _, _, _ = env.step("Noop")
    assert observation.image is not None
    assert (observation.image.shape, observation.image.dtype) == ((256, 256, 3), np.uint8)
    assert [name.lower().replace(" ", "_") for name in env.actions] == [
        name.replace("left", "west").replace("right", "east").replace("up", "north").replace("down", "south")
        if name.startswith("move")
        else name
        for name in constants.actions
    ]
    assert (env.max_steps, env.default_action) == (2000, "Noop")
    assert env.check("noop") == env.check("Do ") == "Noop"
    assert env.check("Do") == "Do"
    assert all(f"\n{action}: " in env.instruction() for action in env.actions)
    assert all(f". {goal}" in env.instruction() for goal in _GOALS)


def test_death_ends_the_episode(environment: Crafter) -> None:
    env = environment
    env._game._player.health = 0
    observation, _, terminated, truncated = env.step("Noop")
    assert (terminated, truncated) == (True, False)
    assert observation.long_term_context.startswith("You died.")
