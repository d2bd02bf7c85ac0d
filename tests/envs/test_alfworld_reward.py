"""Rewards, success and the end of episodes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from envs.alfworld import ALFWorld
from envs.alfworld.facts import Facts
from envs.alfworld.game import TASKS, Goal
from envs.alfworld.reward import goal_conditions

PLACE, LOOK, CLEAN, HEAT, COOL, TWO = TASKS


SMALL: dict[str, Any] = {"width": 32, "height": 32, "tasks": PLACE, "rooms": "small"}


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLDAC_CACHE", str(tmp_path_factory.getbasetemp() / "alfworld-cache"))
        patch.setenv("ALFWORLD_DATA", str(tmp_path_factory.mktemp("no-official-games")))
        yield


# The facts of a kitchen with two mugs and a knife, and what ALFRED's conditions count in it.
ROOM = (
    ("objecttype", "mug1", "mugtype"),
    ("objecttype", "mug2", "mugtype"),
    ("objecttype", "knife1", "knifetype"),
    ("objecttype", "lamp1", "desklamptype"),
    ("receptacletype", "shelf1", "shelftype"),
    ("receptacletype", "shelf2", "shelftype"),
    ("receptacletype", "desk1", "desktype"),
    ("receptacleatlocation", "shelf1", "l1"),
    ("receptacleatlocation", "shelf2", "l2"),
    ("receptacleatlocation", "desk1", "l3"),
    ("inreceptacle", "lamp1", "desk1"),
)


def on(thing: str, place: str) -> tuple[str, ...]:
    return "inreceptacle", thing, place


@pytest.mark.parametrize(
    ("goal", "facts", "met"),
    [
        (Goal(PLACE, "mug", "shelf"), [], (0, 1)),
        (Goal(PLACE, "mug", "shelf"), [on("mug1", "desk1"), on("knife1", "shelf1")], (0, 1)),
        (Goal(PLACE, "mug", "shelf"), [on("mug1", "shelf2")], (1, 1)),
        (Goal(TWO, "mug", "shelf"), [on("mug1", "desk1"), on("mug2", "desk1")], (0, 2)),
        (Goal(TWO, "mug", "shelf"), [on("mug1", "shelf2"), on("knife1", "shelf2")], (1, 2)),
        (Goal(TWO, "mug", "shelf"), [on("mug1", "shelf1"), on("mug2", "shelf2")], (1, 2)),  # not in one
        (Goal(TWO, "mug", "shelf"), [on("mug1", "shelf2"), on("mug2", "shelf2")], (2, 2)),
        (Goal(LOOK, "mug", toggle="desklamp"), [("atlocation", "agent1", "l3")], (0, 2)),
        (Goal(LOOK, "mug", toggle="desklamp"), [("atlocation", "agent1", "l3"), ("holds", "agent1", "mug2")], (1, 2)),
        (Goal(LOOK, "mug", toggle="desklamp"), [("atlocation", "agent1", "l3"), ("holds", "agent1", "knife1")], (0, 2)),
        (Goal(LOOK, "mug", toggle="desklamp"), [("atlocation", "agent1", "l3"), ("istoggled", "lamp1")], (1, 2)),
        (
            Goal(LOOK, "mug", toggle="desklamp"),
            [("atlocation", "agent1", "l1"), ("istoggled", "lamp1"), ("holds", "agent1", "mug1")],
            (1, 2),  # the lamp is elsewhere
        ),
        (
            Goal(LOOK, "mug", toggle="desklamp"),
            [("atlocation", "agent1", "l3"), ("istoggled", "lamp1"), ("holds", "agent1", "mug1")],
            (2, 2),
        ),
        *(
            (Goal(task, "mug", "shelf"), facts, (met, 3))
            for task, state in ((CLEAN, "isclean"), (HEAT, "ishot"), (COOL, "iscool"))
            for facts, met in (
                ([], 0),
                ([on("mug1", "shelf1")], 1),
                ([(state, "mug1")], 1),
                ([(state, "knife1"), on("knife1", "shelf1")], 0),
                ([(state, "mug1"), on("mug2", "shelf1")], 2),  # one is treated, another one placed
                ([(state, "mug1"), on("mug1", "shelf1")], 3),
                ([("ishot" if state == "isclean" else "isclean", "mug1"), on("mug1", "shelf1")], 1),
            )
        ),
    ],
)
def test_goal_conditions(goal: Goal, facts: list[tuple[str, ...]], met: tuple[int, int]) -> None:
    assert goal_conditions(goal, Facts([*ROOM, *facts])) == met


def expected_shares(task: str, verbs: list[str]) -> list[float]:
    """The share of goal conditions after each of the expert's commands, which never takes what it does not need."""
    shares, count = [], 0
    for verb in verbs:
        count += {
            PLACE: verb == "move",
            TWO: verb == "move",
            LOOK: verb in ("take", "use"),
            CLEAN: (verb == "clean") + 2 * (verb == "move"),
            HEAT: (verb == "heat") + 2 * (verb == "move"),
            COOL: (verb == "cool") + 2 * (verb == "move"),
        }[task]
        shares.append(count / {PLACE: 1, TWO: 2, LOOK: 2}.get(task, 3))
    return shares


@pytest.mark.parametrize("task", TASKS)
def test_rewards_of_an_episode(task: str) -> None:
    env = ALFWorld(width=16, height=16, tasks=task, split="valid_unseen", games=1)
    env.reset(seed=0)
    verbs, rewards, done = [], [], False
    while not done:
        command = env.expert_action()
        assert command is not None
        _, reward, done, truncated, info = env.step(command)
        verbs.append(command.split()[0])
        rewards.append(reward)
        assert not truncated
        assert info == ({"invalid": False, "success": True, "task": task} if done else {"invalid": False})
    shares = expected_shares(task, verbs)
    assert shares[-1] == 1.0
    assert rewards == pytest.approx([*shares[:-1], 51.0])
    env.close()


def test_reward_options_and_penalty() -> None:
    env = ALFWorld(**SMALL, success_reward=10, invalid_reward=-0.25)
    env.reset(seed=1)
    assert env.step(None)[1] == -0.25
    done = False
    while not done:
        _, reward, done, _, _ = env.step(env.expert_action())
    assert reward == 11.0
    env.close()


@pytest.mark.parametrize("limit", [None, 3])
def test_truncation(limit: int | None) -> None:
    env = ALFWorld(**SMALL, max_steps=limit)
    env.reset(seed=0)
    steps = [env.step("look" if number % 2 else None)[1:] for number in range(limit or 20)]
    assert [step[2] for step in steps] == [False] * (len(steps) - 1) + [True]
    assert not any(step[1] for step in steps)
    assert [step[0] for step in steps[:2]] == [-1.0, 0.0]
    assert steps[-1][3] == {"invalid": (limit or 20) % 2 == 1, "success": False, "task": PLACE}
    env.close()
    assert ALFWorld(tasks=PLACE, games=1).max_steps == 50


def test_a_goal_in_the_last_step_is_no_truncation() -> None:
    for limit in range(3, 12):
        env = ALFWorld(**SMALL, max_steps=limit)
        env.reset(seed=2)
        done = truncated = False
        steps = 0
        while not (done or truncated):
            *_, done, truncated, info = env.step(env.expert_action())
            steps += 1
        assert steps <= limit
        assert done != truncated
        assert info["success"] == done
        env.close()


def test_conditions_are_all_met_exactly_when_won() -> None:
    choose = random.Random(0)
    for task in TASKS:
        env = ALFWorld(width=16, height=16, tasks=task, split="valid_unseen", games=1)
        for seed in range(3):
            env.reset(seed=seed)
            for _ in range(50):
                expert = choose.random() < 0.7
                command = env.expert_action() if expert else choose.choice(env.action_names)
                *_, terminated, truncated, _ = env.step(command)
                assert env._game is not None
                met, total = goal_conditions(env._game.goal, env._engine.facts)
                assert (met == total) == env._engine.won == terminated
                if terminated or truncated:
                    break
        env.close()
