from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Door, Key
from minigrid.utils.baby_ai_bot import BabyAIBot

from benchmarks.suites.balrog.babyai import BabyAI, describe
from benchmarks.suites.balrog.babyai_kinds import BabyAIKind
from benchmarks.suites.balrog.babyai_level import HELD_OUT, MixedTrainLocal

KINDS: tuple[BabyAIKind, ...] = get_args(BabyAIKind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_expert_does_every_mission_and_every_mission_is_as_the_protocol_says(kind: BabyAIKind) -> None:
    env = BabyAI(kind)
    for seed in range(8):
        env.reset(seed)
        level, words = env.level, env.mission
        bot, action, done, steps = BabyAIBot(level), None, False, 0
        objects = [cell for cell in level.grid.grid if cell is not None and cell.type != "wall"]
        assert not any(held_out in words for held_out in HELD_OUT)
        assert env.max_steps == {"goto": 64, "pickup": 64}.get(kind, 128)
        assert len(objects) == (1 if kind in ("goto", "pickup") else 2)  # the mission's, and no distractors
        assert sorted(thing.type for thing in objects) == ["door", "key"] or kind != "open"
        while not done:
            action = bot.replan(action)
            _, reward, terminated, truncated = env.step(env.actions[int(action)])
            done, steps = terminated or truncated, steps + 1
        assert reward == pytest.approx(1 - 0.9 * steps / env.max_steps)
        assert env.progression() == 1.0
    env.close()


def test_missions_are_those_of_their_kind() -> None:
    beginnings = {"goto": "go to", "pickup": "pick up", "open": "open", "putnext": "put"}
    for kind, beginning in beginnings.items():
        env = BabyAI(kind)  # type: ignore[arg-type]
        env.reset(5)
        assert env.mission.startswith(beginning)
    env = BabyAI("pick_up_seq_go_to")
    missions = set()
    for seed in range(10):
        env.reset(seed)
        missions.add(env.mission)
    assert any(", then go to" in mission for mission in missions)
    assert any("after you pick up" in mission for mission in missions)


def test_the_same_seed_is_the_same_episode_whatever_was_played_before() -> None:
    used, fresh = BabyAI("open"), BabyAI("open")
    for seed in (1, 2):
        used.reset(seed)
        used.step("go forward")
    state = np.random.get_state()[1].copy()  # type: ignore[index]
    first, second = used.reset(7), fresh.reset(7)
    assert first.long_term_context == second.long_term_context
    assert np.array_equal(first.image, second.image)  # type: ignore[arg-type]
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]
    assert used.reset(8).long_term_context != first.long_term_context
    assert used.progression() == 0.0


#: Seed 3 in BALROG's own minigrid and wrapper (BartekCupial/Minigrid at cf73dd1): the mission, the first observation,
#: and the one after "turn right", "go forward".
OFFICIAL: dict[BabyAIKind, tuple[str, list[str], list[str]]] = {
    "goto": (
        "go to the red box",
        ["a wall 6 steps forward", "a wall 1 step left", "a red box 3 steps right and 2 steps forward"],
        ["a wall 5 steps forward", "a wall 1 step right", "a red box 2 steps left and 2 steps forward"],
    ),
    "open": (
        "open the yellow door",
        ["a wall 1 step right", "a locked yellow door 4 steps forward"],
        ["a wall 1 step forward", "a wall 3 steps right"],
    ),
    "putnext": (
        "put the grey key next to the red box",
        ["a wall 6 steps forward", "a wall 1 step left", "a red box 3 steps right and 2 steps forward"],
        ["a wall 1 step right", "a red box 2 steps left and 2 steps forward", "a grey key 3 steps forward"],
    ),
    "pick_up_seq_go_to": (
        "pick up the grey key, then go to the red box",
        ["a wall 6 steps forward", "a wall 1 step left", "a red box 3 steps right and 2 steps forward"],
        ["a wall 1 step right", "a red box 2 steps left and 2 steps forward", "a grey key 3 steps forward"],
    ),
}


#: The missions of seeds 0 to 7 there.
MISSIONS: dict[BabyAIKind, tuple[str, ...]] = {
    "open": (
        "open the blue door",
        "open the purple door",
        "open the yellow door",
        "open the yellow door",
        "open the door",
        "open the door",
        "open the blue door",
        "open the door",
    ),
    "putnext": (
        "put the green key next to the yellow key",
        "put the purple ball next to the yellow ball",
        "put the yellow ball next to the red ball",
        "put the grey key next to the red box",
        "put the green box next to the grey ball",
        "put the red ball next to the green box",
        "put the grey ball next to the grey box",
        "put the yellow ball next to the grey key",
    ),
    "pick_up_seq_go_to": (
        "pick up the green key, then go to the yellow key",
        "go to a yellow key after you pick up a yellow key",
        "go to the grey key after you pick up the grey box",
        "pick up the grey key, then go to the red box",
        "go to the grey ball after you pick up the green box",
        "pick up the red ball, then go to the green box",
        "go to the grey box after you pick up the grey ball",
        "go to the green box after you pick up the purple ball",
    ),
}


@pytest.mark.parametrize("kind", MISSIONS)
def test_seeds_are_the_missions_of_the_official_program(kind: BabyAIKind) -> None:
    env, missions = BabyAI(kind), []
    for seed in range(8):
        env.reset(seed)
        missions.append(env.mission)
    assert tuple(missions) == MISSIONS[kind]


@pytest.mark.parametrize("kind", OFFICIAL)
def test_a_seed_is_the_level_and_the_text_of_the_official_program(kind: BabyAIKind) -> None:
    env = BabyAI(kind)
    first = env.reset(3).long_term_context.split("\n")
    env.step("turn right")
    after = env.step("go forward")[0].long_term_context.split("\n")
    assert (env.mission, first, after) == OFFICIAL[kind]


def scene(*things: tuple[object, int, int], carrying: object = None) -> list[str]:
    """A room of 8 x 8 with the agent at (3, 5), facing north."""
    level = MixedTrainLocal("goto")
    level.reset(seed=0)
    level.grid = Grid(8, 8)
    level.grid.wall_rect(0, 0, 8, 8)
    for thing, x, y in things:
        level.grid.set(x, y, thing)
    level.agent_pos, level.agent_dir, level.carrying = np.array((3, 5)), 3, carrying
    return describe(level)


def test_walls_are_told_ahead_and_to_both_sides() -> None:
    assert scene() == ["a wall 5 steps forward", "a wall 3 steps left"]  # the eastern one is out of view


def test_a_wall_behind_a_thing_is_not_told() -> None:
    assert scene((Key("red"), 3, 3), (Ball("blue"), 2, 5)) == [
        "a blue ball 1 step left",
        "a red key 2 steps forward",
    ]


def test_places_are_told_by_column_then_by_row() -> None:
    lines = scene((Ball("green"), 5, 4), (Key("grey"), 1, 2), (Key("purple"), 1, 4), (Ball("yellow"), 4, 5))
    assert lines == [
        "a wall 5 steps forward",
        "a wall 3 steps left",
        "a grey key 2 steps left and 3 steps forward",
        "a purple key 2 steps left and 1 step forward",
        "a yellow ball 1 step right",
        "a green ball 2 steps right and 1 step forward",
    ]


def test_doors_tell_their_state_and_an_open_one_has_the_originals_article() -> None:
    lines = scene((Door("blue", is_locked=True), 3, 4), (Door("red"), 2, 5), (Door("grey", is_open=True), 4, 5))
    assert lines == [
        "a closed red door 1 step left",
        "a locked blue door 1 step forward",
        "a open grey door 1 step right",
    ]


def test_what_is_carried_comes_first_and_is_not_seen_on_the_floor() -> None:
    assert scene(carrying=Key("red"))[:2] == ["You carry a red key", "a wall 5 steps forward"]


def test_the_picture_is_112_pixels_wide_and_the_instruction_names_mission_and_actions() -> None:
    env = BabyAI("putnext")
    observation = env.reset(0)
    assert observation.image is not None
    assert (observation.image.shape, observation.image.dtype) == ((112, 112, 3), np.uint8)
    assert env.instruction().splitlines()[0].endswith(f"Your mission: {env.mission}.")
    assert all(f"\n{action}: " in env.instruction() for action in env.actions)
    assert env.actions == ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
    assert env.check("turn left") == "turn left"
    assert env.check(" turn left") == env.check("Turn left") == env.check("") == "go forward"


def test_chance_rarely_does_a_mission() -> None:
    env, rng, solved = BabyAI("putnext"), np.random.default_rng(0), 0.0
    for seed in range(6):
        env.reset(seed)
        for _ in range(env.max_steps):
            _, _, terminated, truncated = env.step(env.actions[rng.integers(6)])
            if terminated or truncated:
                break
        assert terminated or truncated
        solved += env.progression()
    assert solved <= 3


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="no missions of the kind 'dance'"):
        MixedTrainLocal("dance")  # type: ignore[arg-type]
