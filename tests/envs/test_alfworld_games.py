"""Where games come from: made from floor plans, kept on disk, or downloaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.alfworld import ALFWorld, floor_plans, generate, official
from envs.alfworld.engine import REFUSAL, Engine
from envs.alfworld.expert import next_command
from envs.alfworld.game import PLACEHOLDER, SPLITS, TASKS, Goal, goal_of
from envs.alfworld.games import STEP_LIMITS, generated_game, make_game, path_of, walkthrough
from envs.alfworld.generator import GameId, drafts
from envs.alfworld.knowledge import Knowledge
from envs.base import EVALUATION_SEEDS, SimulatorError
from envs.registry import make

PLACE = "pick_and_place_simple"


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLDAC_CACHE", str(tmp_path_factory.getbasetemp() / "alfworld-cache"))
        patch.setenv("ALFWORLD_DATA", str(tmp_path_factory.mktemp("no-official-games")))
        yield


def first_draft(split: str, task: str, rooms: str, number: int) -> Any:
    return next(drafts(GameId(split, task, rooms, number)))


def test_a_game_is_the_same_on_every_machine() -> None:
    code = (
        "import hashlib\n"
        "from envs.alfworld.game import SPLITS, TASKS\n"
        "from envs.alfworld.generator import GameId, drafts\n"
        "for split in SPLITS:\n"
        "    for task in TASKS:\n"
        "        game = next(drafts(GameId(split, task, 'all', 3)))\n"
        "        print(hashlib.sha256(repr((game.goal, game.text, game.problem)).encode()).hexdigest())\n"
    )
    outputs = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split())) == 18


@pytest.mark.parametrize("task", TASKS)
def test_games_of_before_december_2024_are_won_too(task: str) -> None:
    games = (game for number in range(9) for game in drafts(GameId("train", task, "all", number)))
    now = next(game for game in games if walkthrough(Engine(), game, 50) is not None)
    assert now.grammar.count("move {o} to {r}") == 2
    before = replace(now, grammar=now.grammar.replace("move {o} to {r}", "put {o} in/on {r}"))
    engine = Engine()
    wanted, found = walkthrough(engine, now, 50), walkthrough(engine, before, 50)
    assert wanted is not None
    assert found == [re.sub(r"^move (.*) to (.*)$", r"put \1 in/on \2", command) for command in wanted]


@pytest.mark.parametrize("form", ["move {o} to {r}", "put {o} in/on {r}"])
def test_what_is_not_needed_is_put_down_in_the_words_of_the_game(form: str) -> None:
    made = first_draft("train", PLACE, "all", 0)
    game = replace(made, grammar=made.grammar.replace("move {o} to {r}", form))
    engine = Engine()
    engine.start(game)
    known = Knowledge(engine.facts, engine.entities)
    verb = form.partition(" ")[0]
    for place in known.receptacles:
        for tried in (f"go to {place}", f"open {place}"):
            engine.step(tried)
            known.observe(tried if engine.feedback != REFUSAL else "", engine.facts, engine.entities)
        takes = [c for c in engine.commands if c.startswith("take ") and not c.startswith(f"take {game.goal.object} ")]
        if takes:
            break
    engine.step(takes[0])
    known.observe(takes[0], engine.facts, engine.entities)
    command = next_command(game.goal, known, engine.commands)
    assert command is not None
    assert command.startswith(f"{verb} {known.holding} ")


def test_splits_share_no_game() -> None:
    problems: dict[str, set[str]] = {split: set() for split in SPLITS}
    rooms: dict[str, set[int]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        for number in range(150):
            problems[split].add(first_draft(split, PLACE, "small", number).problem)
        for kind in floor_plans.ROOMS:
            rooms[split].update(floor_plans.numbers(kind, split))
    assert not problems["train"] & problems["valid_seen"]
    assert not (problems["train"] | problems["valid_seen"]) & problems["valid_unseen"]
    assert rooms["train"] == rooms["valid_seen"]
    assert not rooms["train"] & rooms["valid_unseen"]
    assert len(rooms["train"]) == 80
    assert len(rooms["valid_unseen"]) == 40
    assert all(len(found) > 140 for found in problems.values())


@pytest.mark.parametrize("task", TASKS)
def test_drafts_are_what_their_task_needs(task: str) -> None:
    for number in range(3):
        game = first_draft("train", task, "all", number)
        goal, start = game.goal, game.problem.partition("(:goal")[0]
        assert goal.task == task
        assert goal.object in game.text
        assert (goal.parent or goal.toggle) in game.text
        objects = re.findall(rf"\(objectType (\S+) {goal.object}Type\)", start, re.IGNORECASE)
        places = re.findall(rf"\(receptacleType (\S+) {goal.parent}Type\)", start, re.IGNORECASE)
        assert len(objects) >= goal.count
        if goal.parent:
            assert places
        contained = re.findall(r"\(inReceptacle (\S+) (\S+)\)", start)
        assert not [pair for pair in contained if pair[0] in objects and pair[1] in places]
        for verb, property_, appliance in (
            ("clean", "cleanable", "SinkBasin"),
            ("heat", "heatable", "Microwave"),
            ("cool", "coolable", "Fridge"),
        ):
            if task.startswith(f"pick_{verb}_"):
                assert all(f"({property_} {id_})" in start for id_ in objects)
                assert f" {appliance}Type)" in start


def test_small_rooms_are_small() -> None:
    for number in range(40):
        start = first_draft("train", PLACE, "small", number).problem.partition("(:goal")[0]
        receptacles = re.findall(r"\(receptacleType (\S+) (\S+)\)", start)
        things = re.findall(r"\(objectType (\S+) (\S+)\)", start)
        assert 3 <= len(receptacles) <= 4
        assert len({kind for _, kind in receptacles}) == len(receptacles)
        assert 1 <= len(things) <= 3
        assert len({kind for _, kind in things}) == len(things)
        assert start.count("(openable ") <= 1


def test_games_are_kept_and_damaged_ones_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLDAC_CACHE", str(tmp_path))
    game_id = GameId("train", PLACE, "small", 0)
    game = generated_game(game_id)
    path = path_of(game_id)
    whole = path.read_bytes()
    for damaged in (b"", b"[]", whole[: len(whole) // 2], whole.replace(b"Type", b"Tipe", 1)):
        path.write_bytes(damaged)
        assert generated_game(game_id) == game
        assert path.read_bytes() == whole
    assert make_game(game_id) == game
    assert [p.name for p in path.parent.iterdir()] == ["0.json"]


def assert_expert_wins(split: str, task: str, rooms: str, numbers: range) -> None:
    engine = Engine()
    for number in numbers:
        game = generated_game(GameId(split, task, rooms, number))
        commands = walkthrough(engine, game, STEP_LIMITS[rooms])
        assert commands is not None
        assert engine.won
    engine.close()


def test_expert_wins_small_games() -> None:
    assert_expert_wins("train", PLACE, "small", range(25))
    assert_expert_wins("valid_unseen", PLACE, "small", range(10))


@pytest.mark.parametrize("task", TASKS)
def test_expert_wins_a_game_of_each_task(task: str) -> None:
    assert_expert_wins("valid_unseen", task, "all", range(1))


@pytest.mark.slow
def test_expert_wins_a_hundred_games() -> None:
    for task in TASKS:
        assert_expert_wins("train", task, "all", range(17))


def test_command_makes_games(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLDAC_CACHE", str(tmp_path))
    generated_game(GameId("train", PLACE, "small", 1))
    command = ["generate", "--rooms", "small", "--tasks", PLACE, "--games", "3", "--workers", "2"]
    monkeypatch.setattr(sys, "argv", command)
    generate.main()
    assert f"train {PLACE}: 2 made" in (output := capsys.readouterr().out)
    assert "2 games made and 1 found in " in output
    assert len(list(tmp_path.glob("alfworld/games/*/small/train/*/*.json"))) == 3
    monkeypatch.setattr(sys, "argv", ["generate", "--games", "0"])
    with pytest.raises(SystemExit):
        generate.main()


def write_official(root: Path, split: str, name: str, goal: Goal, number: int, **changes: Any) -> Path:
    """A game in the layout of `alfworld-download`."""
    game = first_draft(split, goal.task, "small", number)
    folder = root / "json_2.1.1" / split / name / f"trial_T{number}"
    folder.mkdir(parents=True)
    values = {
        "pddl_domain": game.domain,
        "grammar": game.grammar.replace(PLACEHOLDER, game.text),
        "pddl_problem": game.problem,
        "solvable": True,
        "walkthrough": [],
        **changes,
    }
    target = {"object_target": game.goal.object.title(), "parent_target": game.goal.parent, "toggle_target": ""}
    (folder / "game.tw-pddl").write_text(json.dumps(values))
    (folder / "traj_data.json").write_text(json.dumps({"task_type": goal.task, "pddl_params": target}))
    return folder


@pytest.fixture
def official_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    official._index.cache_clear()
    goal = Goal(PLACE, "")
    for split in ("train", "valid_unseen"):
        write_official(tmp_path, split, f"{PLACE}-Mug-None-Desk-301", goal, 0)
        write_official(tmp_path, split, f"{PLACE}-Mug-None-Desk-302", goal, 1, solvable=False)
        write_official(tmp_path, split, f"{PLACE}-AppleSliced-None-Desk-303", goal, 2)
        write_official(tmp_path, split, "pick_and_place_with_movable_recep-Mug-Bowl-Desk-304", goal, 3)
    yield tmp_path
    official._index.cache_clear()


def test_official_games_are_preferred(official_data: Path) -> None:
    expected = {split: first_draft(split, PLACE, "small", 0) for split in ("train", "valid_unseen")}
    unwrapped = ALFWorld(width=32, height=32, tasks=PLACE)
    for seed, split in ((0, "train"), (1, "train"), (EVALUATION_SEEDS[0], "valid_unseen")):
        observation, _ = unwrapped.reset(seed=seed)
        assert f"Your task is to: {expected[split].text}." in observation["prompt"]
        assert unwrapped._game is not None
        assert unwrapped._game.problem == expected[split].problem
        assert PLACEHOLDER not in unwrapped._engine.feedback
        done = False
        while not done:
            *_, done, truncated, info = unwrapped.step(unwrapped.expert_action())
            assert not truncated
        assert info == {"invalid": False, "success": True, "task": PLACE}
    unwrapped.close()
    source = official.OfficialGames("train", [PLACE], None)
    assert source.count(PLACE) == 2  # one of which cannot be won
    assert source.get(PLACE, 1) == source.get(PLACE, 0)
    assert official.OfficialGames("train", [PLACE], 1).count(PLACE) == 1


def test_official_games_are_left_where_they_lack_a_task(official_data: Path) -> None:
    two = f"{PLACE}, pick_two_obj_and_place"
    unwrapped = ALFWorld(width=32, height=32, tasks=two, split="train", games=1)
    unwrapped.reset(seed=0)
    assert unwrapped._game is not None
    assert unwrapped._game.problem != first_draft("train", PLACE, "small", 0).problem
    unwrapped.close()
    with pytest.raises(
        SimulatorError, match="no official games of pick_two_obj_and_place in train; run alfworld-download"
    ):
        ALFWorld(tasks=two, split="train", data="official")
    with pytest.raises(ValueError, match="no official game has"):
        ALFWorld(tasks=PLACE, rooms="small", data="official")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grammar": "no task"}, "does not tell its task"),
        ({"solvable": False}, "none of the 1 games"),
    ],
)
def test_broken_official_games_are_one_line(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    official._index.cache_clear()
    folder = write_official(tmp_path, "train", f"{PLACE}-Mug-None-Desk-301", Goal(PLACE, ""), 0, **changes)
    source = official.OfficialGames("train", [PLACE], None)
    with pytest.raises(SimulatorError, match=message) as error:
        source.get(PLACE, 0)
    assert "\n" not in str(error.value)
    for content in ("", "[1]", "{nothing", '{"solvable": true}'):
        (folder / "game.tw-pddl").write_text(content)
        with pytest.raises(SimulatorError, match="again") as error:
            source.get(PLACE, 0)
        assert "\n" not in str(error.value)
    official._index.cache_clear()


@pytest.mark.parametrize("trajectory", [{}, [], {"pddl_params": 3, "task_type": PLACE}, {"pddl_params": {}}])
def test_trajectories_without_a_goal(trajectory: Any) -> None:
    with pytest.raises(SimulatorError, match=r"traj_data\.json"):
        goal_of(trajectory)


def test_unknown_task_type() -> None:
    values = {"object_target": "Mug", "parent_target": None, "toggle_target": ""}
    assert goal_of({"pddl_params": values, "task_type": PLACE}) == Goal(PLACE, "mug")
    with pytest.raises(SimulatorError, match="the types are pick_and_place_simple"):
        goal_of({"pddl_params": values, "task_type": "juggle"})


def test_episodes_are_the_same_on_every_machine(tmp_path: Path) -> None:
    """Caches of their own and other hash seeds: the same pictures, prompts, rewards and expert."""
    code = (
        "import hashlib, random\n"
        "from envs.registry import make\n"
        "digest = hashlib.sha256()\n"
        "env = make('ALFWorld-Small-v0', width=48, height=48)\n"
        "for seed in (0, 1, 2**30):\n"
        "    choose = random.Random(seed)\n"
        "    observation, _ = env.reset(seed=seed)\n"
        "    done = False\n"
        "    while not done:\n"
        "        world = env.unwrapped\n"
        "        action = world.expert_action() if choose.random() < .3 else choose.choice(world.action_names)\n"
        "        seen = observation['prompt'], world.describe(), world.expert_action(), world._engine.commands\n"
        "        digest.update(repr(seen).encode() + observation['frames'].tobytes())\n"
        "        observation, reward, terminated, truncated, info = env.step(action)\n"
        "        digest.update(repr((reward, terminated, truncated, info)).encode())\n"
        "        done = terminated or truncated\n"
        "print(digest.hexdigest())\n"
    )
    outputs = set()
    for seed, cache in (("1", "a"), ("2", "b")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "VLDAC_CACHE": str(tmp_path / cache)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        outputs.add(run.stdout)
        assert run.stderr == ""
    assert len(outputs) == 1
    assert len(outputs.pop()) == 65


def test_what_has_been_played_before_does_not_matter() -> None:
    def first_pages(env: Any) -> str:
        digest = hashlib.sha256()
        for seed in (3, EVALUATION_SEEDS[3]):
            observation, _ = env.reset(seed=seed)
            digest.update(observation["prompt"].encode() + observation["frames"].tobytes())
        return digest.hexdigest()

    env, other = (make("ALFWorld-Small-v0", width=32, height=32) for _ in range(2))
    fresh = first_pages(env)
    for seed in range(6):
        other.reset(seed=seed)
        other.step(other.unwrapped.expert_action())  # type: ignore[attr-defined]
    assert first_pages(other) == fresh
    env.close()
    other.close()
