"""Environments of Gymnasium's registry, behind the interface of all others."""

from __future__ import annotations

import enum
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from misbehaving_envs import TOY, Toy

from envs.adapter import GymnasiumEnv
from envs.adapter.known import KNOWN
from envs.base import (
    EVALUATION_SEEDS,
    MissingSimulatorError,
    SimulatorError,
    UnknownEnvError,
    UnknownOptionError,
    UnsuitableEnvError,
)
from envs.registry import make
from envs.vector import VectorEnv, evaluation_seeds

SIZE: dict[str, Any] = {"width": 32, "height": 24}
IDS = ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"]


def adapted(env_id: str, **options: Any) -> GymnasiumEnv:
    return cast(GymnasiumEnv, make(f"gymnasium:{env_id}", **SIZE, options=options).unwrapped)


def toy(**options: Any) -> GymnasiumEnv:
    return adapted(TOY, **options)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("env_id", [*IDS, "Blackjack-v1", TOY])
def test_it_follows_gymnasium(env_id: str) -> None:
    env = make(f"gymnasium:{env_id}", **SIZE, frames=2)
    check_env(env.unwrapped, skip_render_check=True)
    check_env(env, skip_render_check=True)
    env.close()


def play(env: gym.Env[Any, Any], seed: int, steps: int = 25) -> list[Any]:
    unwrapped, choose = cast(GymnasiumEnv, env.unwrapped), np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    record: list[Any] = [(observation["prompt"], observation["frames"].tobytes(), unwrapped.describe())]
    for _ in range(steps):
        action = None if choose.random() < 0.2 else int(choose.integers(len(unwrapped.action_names)))
        observation, *rest = env.step(action)
        record += [(observation["prompt"], observation["frames"].tobytes(), unwrapped.describe()), rest]
        if rest[1] or rest[2]:
            break
    return record


@pytest.mark.parametrize("env_id", [*IDS, TOY])
def test_seed_and_actions_determine_everything(env_id: str) -> None:
    env, other = (make(f"gymnasium:{env_id}", **SIZE, frames=2, prompt="terse") for _ in range(2))
    seed = EVALUATION_SEEDS[7]
    first = play(env, seed)
    play(other, 5)
    assert play(other, seed) == first
    cast(GymnasiumEnv, env.unwrapped).expert_action()
    assert play(env, seed) == first


def test_worker_processes_show_what_one_simulator_here_shows() -> None:
    env = make("gymnasium:CartPole-v1", **SIZE, frames=2)
    with VectorEnv(
        "gymnasium:CartPole-v1", 4, num_workers=2, seeds=evaluation_seeds(4, 4), **SIZE, frames=2
    ) as simulators:
        shown = [simulators.reset(), *(simulators.step(["left", "right", None, "LEFT"]).observations for _ in range(3))]
    for i, action in enumerate([0, 1, None, 0]):
        alone = [env.reset(seed=evaluation_seeds(4, 4)(i, 0))[0], *(env.step(action)[0] for _ in range(3))]
        for mine, theirs in zip(alone, shown, strict=True):
            assert np.array_equal(mine["frames"], cast(Any, theirs[i])["frames"])


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("prompt", ["full", "terse"])
def test_prompts_name_the_task_and_the_actions(env_id: str, prompt: Any) -> None:
    env = make(f"gymnasium:{env_id}", **SIZE, prompt=prompt)
    text, known = env.reset(seed=0)[0]["prompt"], KNOWN[env_id.partition("-")[0]]
    assert text.startswith(known.terse if prompt == "terse" else known.instruction)
    assert f"ctions: {', '.join(known.actions)}." in text
    assert text.isascii()
    assert prompt == "full" or len(text) <= 110


def test_an_answer_that_names_nothing_passes_time_and_moves_nothing() -> None:
    env = toy(max_episode_steps=3)
    before = env.reset(seed=3)[0]["frames"]
    for end in (False, False, True):
        observation, *rest = env.step(None)
        assert rest == [-1.0, False, end, {"invalid": True} | ({"success": False} if end else {})]
        assert np.array_equal(observation["frames"], before)
    assert toy().parse_action("go  LEFT\n") == 0
    assert toy().parse_action("left go") is None
    with pytest.raises(ValueError, match="action 7 is not in"):
        toy().step(7)


def test_names_are_the_given_ones_else_the_environments_else_numbers() -> None:
    assert toy().action_names == ("go left", "go right")
    assert toy(actions="west, east").action_names == ("west", "east")
    assert toy(actions=["west", "east"]).parse_action("East") == 1
    assert toy(kwargs={"meanings": None}).action_names == ("action 0", "action 1")
    assert toy(kwargs={"meanings": ["same", "Same"]}).action_names == ("action 0", "action 1")
    assert toy(kwargs={"meanings": enum.Enum("Moves", ["TURN_LEFT", "TURN_RIGHT"])}).action_names == (
        "turn left",
        "turn right",
    )
    for wrong, said in {
        "west": "2 actions, but `actions` names 1",
        "a,A": "distinct names",
        "a,": "distinct names",
        "a,é": "in printable ASCII",
    }.items():
        with pytest.raises(UnsuitableEnvError, match=said):
            toy(actions=wrong)


@pytest.mark.parametrize(
    ("space", "last"),
    [
        (gym.spaces.Discrete(3, start=-1), 1),
        (gym.spaces.MultiDiscrete([2, 3], start=[1, 0]), [2, 2]),
        (gym.spaces.MultiBinary(2), [1, 1]),
    ],
)
def test_actions_of_finite_spaces_are_numbered_in_order(space: gym.Space[Any], last: Any) -> None:
    env = toy(kwargs={"space": space, "meanings": None})
    env.reset(seed=0)
    env.step(len(env.action_names) - 1)
    taken = cast(Toy, env.native.unwrapped).taken
    assert space.contains(taken)
    assert np.array_equal(taken, last)


def test_what_cannot_be_adapted_is_one_line_with_its_cause() -> None:
    cases: list[tuple[str, dict[str, Any], type[Exception], str]] = [
        ("CartPol-v1", {}, UnknownEnvError, "Gymnasium has no CartPol-v1: .*Did you mean: `CartPole`"),
        ("nowhere_at_all:Toy-v0", {}, UnknownEnvError, "No module named 'nowhere_at_all'"),
        ("Pendulum-v1", {}, UnsuitableEnvError, "have no names; wrap it"),
        ("LunarLander-v3", {}, MissingSimulatorError, "not installed: Box2D"),
        ("CartPole-v1", {"kwargs": {"gravity": 1}}, UnsuitableEnvError, "unexpected keyword argument 'gravity'"),
        ("CartPole-v1", {"kwargs": {"render_mode": "human"}}, UnsuitableEnvError, "'render_mode', which is set"),
        ("CartPole-v1", {"max_episode_steps": 0}, UnsuitableEnvError, "at least 1 step"),
        ("CartPole-v1", {"success_return": "high"}, UnsuitableEnvError, "is 'high'; it must be of type int or float"),
        ("CartPole-v1", {"action": "a,b"}, UnknownOptionError, "its options are actions, instruction, kwargs, max_"),
        (TOY, {"kwargs": {"picture": None}}, UnsuitableEnvError, "draws no pictures"),
        (TOY, {"kwargs": {"picture": np.zeros((4, 4), np.uint8)}}, UnsuitableEnvError, "draws no pictures"),
        (TOY, {"kwargs": {"space": gym.spaces.Discrete(65)}}, UnsuitableEnvError, "65 actions; a prompt can list 64"),
    ]
    for env_id, options, kind, said in cases:
        with pytest.raises(kind, match=said) as error:
            adapted(env_id, **options)
        assert "\n" not in str(error.value)
    with pytest.raises(SimulatorError, match=r"have no names; wrap it"):  # by a worker: once, and not three times
        VectorEnv("gymnasium:Pendulum-v1", 1, num_workers=1, seeds=evaluation_seeds(1, 1), **SIZE)


def finish(env: GymnasiumEnv, action: int) -> dict[str, Any]:
    env.reset(seed=0)
    while True:
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return info


def test_success_is_decided_in_the_documented_order() -> None:
    right, left = 1, 0
    assert finish(toy(), right)["success"]  # the registered threshold is 3, and three steps right earn 3
    assert not finish(toy(), left)["success"]
    assert not finish(toy(success_return=4), right)["success"]
    assert finish(toy(success_return=-10), left)["success"]
    told = toy(kwargs={"told": {"is_success": False}})
    assert not finish(told, right)["success"]
    assert finish(toy(success_return=1, kwargs={"told": {"success": False}}), right)["success"]
    # An answer that names no action takes nothing back of what the environment has said of itself.
    told = toy(max_episode_steps=2, kwargs={"told": {"is_success": False}})
    told.reset(seed=0)
    *_, ended = [told.step(action)[4] for action in (right, None)]
    assert ended == {"invalid": True, "success": False}
    # Nor does it reach a threshold below 0, which a game of costs has, by passing time.
    acrobot = adapted("Acrobot-v1", max_episode_steps=3)
    acrobot.reset(seed=0)
    *_, ended = [acrobot.step(None)[4] for _ in range(3)]
    assert ended == {"invalid": True, "success": False}
    # Reaching the flag is a success, even below the threshold of -110 that is meant for a mean.
    car = adapted("MountainCar-v0")
    car.reset(seed=0)
    success, total = False, 0.0
    for _ in range(200):
        _, reward, terminated, _, info = car.step(car.parse_action(car.expert_action() or ""))
        total += reward
        if terminated:
            success = info["success"]
            break
    assert success
    assert total < -110


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0", "CliffWalking-v1", "Taxi-v4"])
def test_the_expert_succeeds(env_id: str) -> None:
    env = adapted(env_id)
    for seed in EVALUATION_SEEDS[:3]:
        env.reset(seed=seed)
        while True:
            *_, terminated, truncated, info = env.step(env.parse_action(env.expert_action() or ""))
            if terminated or truncated:
                break
        assert info["success"]


def test_descriptions_are_true() -> None:
    lake = adapted("FrozenLake-v1", kwargs={"is_slippery": False})
    lake.reset(seed=0)
    assert lake.describe() == "row 0 column 0"
    lake.step(lake.parse_action("down"))
    lake.step(lake.parse_action("right"))
    assert lake.describe() == "row 1 column 1"
    cart = adapted("CartPole-v1")
    cart.reset(seed=1)
    position, _, angle, falls = cast(Any, cart.native.unwrapped).state
    words = cart.describe().split()
    assert [words[1], words[3], words[5]] == ["left" if x < 0 else "right" for x in (position, angle, falls)]
    assert toy().describe() == "mission ahead?"  # what it says, in printable characters
    assert toy(kwargs={"mission": ""}).describe().startswith("a picture of ")
    jack = adapted("Blackjack-v1")
    jack.reset(seed=1)
    assert jack.describe() == "state " + " ".join(str(number) for number in jack._seen)
    acrobot = adapted("Acrobot-v1")
    acrobot.reset(seed=0)
    assert acrobot.describe() == "tip below joint"
    taxi = adapted("Taxi-v4")
    taxi.reset(seed=0)
    row, column, *_ = cast(Any, taxi.native.unwrapped).decode(taxi._seen)
    assert taxi.describe().startswith(f"taxi row {row} column {column} passenger ")


def test_pictures_are_scaled_and_the_episodes_limit_is_the_registered_one() -> None:
    lake = adapted("FrozenLake-v1")
    assert lake.reset(seed=0)[0]["frames"].shape == (1, 24, 32, 3)
    assert len(np.unique(lake.render())) > 10
    assert (lake._limit, toy()._limit, toy(max_episode_steps=9)._limit) == (100, 50, 9)
    assert adapted("CliffWalking-v1")._limit == 1000
