"""The environment: actions, options, seeds, the expert, and many at once."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.alfworld import ALFWorld
from envs.alfworld.engine import REFUSAL
from envs.alfworld.game import TASKS
from envs.alfworld.games import generated_game
from envs.alfworld.generator import GameId
from envs.base import EVALUATION_SEEDS
from envs.registry import make, registered
from envs.vector import VectorEnv, training_seeds

PLACE, LOOK, CLEAN, HEAT, COOL, TWO = TASKS


SMALL: dict[str, Any] = {"width": 32, "height": 32, "tasks": PLACE, "rooms": "small"}


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLDAC_CACHE", str(tmp_path_factory.getbasetemp() / "alfworld-cache"))
        patch.setenv("ALFWORLD_DATA", str(tmp_path_factory.mktemp("no-official-games")))
        yield


@pytest.fixture
def small() -> Iterator[ALFWorld]:
    unwrapped = ALFWorld(**SMALL)
    yield unwrapped
    unwrapped.close()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("env_id", [name for name in registered() if name.startswith("ALFWorld-")])
def test_follows_gymnasium(env_id: str) -> None:
    options = {} if env_id == "ALFWorld-Small-v0" else {"games": 1}
    env = make(env_id, width=32, height=24, options=options)
    check_env(env.unwrapped, skip_render_check=True)
    check_env(env, skip_render_check=True)
    env.close()


def test_illegal_answers_raise_nothing_and_change_nothing(small: ALFWorld) -> None:
    first, _ = small.reset(seed=5)
    choose = random.Random(0)
    commands = small._engine.commands
    for number in range(3000):
        words_ = [choose.choice(commands), "", "take", "{r.name}", "go to go to", "\x00", "é" * 50, "look " * 500]
        junk = "".join(choose.choices(string.printable, k=choose.randrange(40)))
        text = choose.choice([*(word + "!" for word in words_), junk])
        assert small.parse_action(text) is None
        if number % 100 == 0:
            observation, reward, terminated, truncated, info = small.step(choose.choice([text, None]))
            assert (reward, terminated) == (-1.0, False)
            assert info["invalid"] is True
            assert REFUSAL in observation["prompt"]
            assert np.array_equal(observation["frames"], first["frames"])
            if truncated:
                small.reset(seed=5)
    with pytest.raises(ValueError, match="is not a text"):
        small.step(3)  # type: ignore[arg-type]


def test_misuse_is_refused() -> None:
    unwrapped = ALFWorld(**SMALL)
    for use in (lambda: unwrapped.step(None), unwrapped.render, unwrapped.describe, unwrapped.expert_action):
        with pytest.raises(RuntimeError, match="call reset first"):
            use()
    unwrapped.close()
    unwrapped.close()
    with pytest.raises(RuntimeError, match="closed"):
        unwrapped.reset(seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "juggle"}, "pick_and_place_simple, look_at_obj_in_light"),
        ({"tasks": ""}, "pick_and_place_simple, look_at_obj_in_light"),
        ({"tasks": 3}, "pick_and_place_simple, look_at_obj_in_light"),
        ({"rooms": "tiny"}, "rooms is 'tiny'; it must be one of all, small"),
        ({"split": "test"}, "auto, train, valid_seen, valid_unseen"),
        ({"data": "mine"}, "auto, official, generated"),
        ({"games": 0}, "games is 0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"prompt_style": "short"}, "prompt_style is 'short'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        ALFWorld(**options)
    assert "\n" not in str(error.value)


def test_seeds_choose_split_task_and_game() -> None:
    unwrapped = ALFWorld(width=16, height=16, rooms="small", tasks=PLACE, games=3)
    problems: dict[bool, set[str]] = {True: set(), False: set()}
    for number in range(30):
        for held in (True, False):
            unwrapped.reset(seed=EVALUATION_SEEDS[number] if held else number)
            assert unwrapped._game is not None
            problems[held].add(unwrapped._game.problem)
    expected = {
        held: {generated_game(GameId(split, PLACE, "small", n)).problem for n in range(3)}
        for held, split in ((True, "valid_unseen"), (False, "train"))
    }
    assert problems == expected
    unwrapped.close()
    unwrapped = ALFWorld(width=16, height=16, tasks=f"{LOOK},{PLACE}", split="valid_unseen", games=1)
    tasks = []
    for seed in range(12):
        unwrapped.reset(seed=seed)
        assert unwrapped._game is not None
        tasks.append(unwrapped._game.goal.task)
    assert set(tasks) == {LOOK, PLACE}
    unwrapped.close()


def test_expert_copes_with_what_it_did_not_do(small: ALFWorld) -> None:
    choose = random.Random(1)
    wins = 0
    for seed in range(20):
        small.max_steps = 60
        small.reset(seed=seed)
        for step in range(60):
            random_step = step < 25 and choose.random() < 0.7
            command = choose.choice(small.action_names) if random_step else small.expert_action()
            assert command in small._engine.commands
            *_, terminated, truncated, info = small.step(command)
            if terminated or truncated:
                wins += info["success"]
                break
    assert wins == 20


def test_expert_undoes_random_steps_in_every_task() -> None:
    choose = random.Random(2)
    for task in TASKS:
        unwrapped = ALFWorld(width=16, height=16, tasks=task, split="valid_unseen", games=1, max_steps=400)
        unwrapped.reset(seed=0)
        info: dict[str, Any] = {}
        for step in range(400):
            command = choose.choice(unwrapped.action_names) if step < 60 else unwrapped.expert_action()
            assert command in unwrapped._engine.commands
            *_, terminated, truncated, info = unwrapped.step(command)
            if terminated or truncated:
                break
        assert info["success"]
        unwrapped.close()


def test_random_play_sometimes_wins_small_games(small: ALFWorld) -> None:
    choose, wins = random.Random(0), 0
    for seed in range(100):
        small.reset(seed=seed)
        done = False
        while not done:
            *_, terminated, truncated, info = small.step(choose.choice(small.action_names))
            done = terminated or truncated
        wins += info["success"]
    assert 0.08 <= wins / 100 <= 0.4


def test_pool_of_simulators_replays() -> None:
    options: dict[str, Any] = {"width": 24, "height": 24, "frames": 2, "prompt": "terse"}

    def texts(observations: list[Any], number: int) -> list[str | None]:
        actions = [o["prompt"].rpartition("actions: ")[2].removesuffix(".").split(", ") for o in observations]
        return [None if number % 7 == i else a[number % len(a)] for i, a in enumerate(actions)]

    with VectorEnv("ALFWorld-Small-v0", 3, num_workers=2, seeds=training_seeds(1), **options) as pool:
        observations = pool.reset()
        for number in range(9):
            observations = pool.step(texts(observations, number)).observations
        state = json.loads(json.dumps(pool.state_dict()))
        rest = []
        for number in range(9, 30):
            step = pool.step(texts(observations, number))
            observations = step.observations
            rest.append((step.rewards.tolist(), step.infos, [o["prompt"] for o in observations if o]))
    assert any("success" in info for _, infos, _ in rest for info in infos)
    with VectorEnv("ALFWorld-Small-v0", 3, num_workers=1, seeds=training_seeds(1), **options) as pool:
        observations = pool.load_state_dict(state)
        for number in range(9, 30):
            step = pool.step(texts(observations, number))
            observations = step.observations
            assert (step.rewards.tolist(), step.infos, [o["prompt"] for o in observations if o]) == rest[number - 9]


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    environments = [
        ALFWorld(**SMALL, games=50),
        ALFWorld(width=32, height=32, tasks=f"{LOOK},{HEAT}", games=6),
    ]
    files = len(list(Path("/proc/self/fd").iterdir()))

    def play(seeds: range) -> None:
        for seed in seeds:
            for unwrapped in environments:
                unwrapped.reset(seed=seed)
                for _ in range(3):
                    unwrapped.step(unwrapped.expert_action())

    play(range(60))
    before = resident_megabytes()
    play(range(250))
    assert resident_megabytes() - before < 30
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    for unwrapped in environments:
        unwrapped.close()
