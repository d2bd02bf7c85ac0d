from __future__ import annotations

import json
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from textworld.challenges.tw_cooking.cooking import KB_GRAMMAR_PATH, KB_LOGIC_PATH
from textworld.generator.data import KnowledgeBase

from benchmarks.harness.task import BenchmarkDataError
from benchmarks.suites.balrog import textworld_games
from benchmarks.suites.balrog.tasks import make
from benchmarks.suites.balrog.textworld import TextWorld
from benchmarks.suites.balrog.textworld_games import MadeGames, PublishedGames
from benchmarks.suites.balrog.textworld_instructions import INSTRUCTIONS
from benchmarks.suites.balrog.textworld_make import RECIPES, Recipe, generate, recompile

pytestmark = pytest.mark.filterwarnings("ignore:.*is not fully supported")  # TextWorld's import silences it elsewhere


class Given:
    """One game for every seed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, seed: int) -> Path:
        return self.path

    def digest(self) -> str:
        return ""


@pytest.fixture(scope="session")
def coin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("games") / "coin.z8"
    state = random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    generate(Recipe("tw-coin_collector", {"level": 3}), 0, path)
    assert random.getstate() == state[0]
    assert np.array_equal(np.random.get_state()[1], state[1])  # type: ignore[index]
    return path


@pytest.fixture(scope="session")
def meal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("games") / "meal.z8"
    settings = {"recipe": 2, "take": 1, "go": 1, "cut": True, "split": "test", "recipe_seed": 0}
    generate(Recipe("tw-cooking", settings, only_last_action=False), 0, path)
    return path


def walkthrough(game: Path) -> list[str]:
    found: list[str] = json.loads(game.with_suffix(".json").read_text())["metadata"]["walkthrough"]
    return found


@pytest.mark.parametrize("task", INSTRUCTIONS)
def test_the_commands_that_an_agent_is_told_are_those_that_textworld_knows(task: str) -> None:
    cooking = KnowledgeBase.load(logic_path=KB_LOGIC_PATH, grammar_path=KB_GRAMMAR_PATH)
    commands = {*KnowledgeBase.default().inform7_commands.values(), *cooking.inform7_commands.values(), "goal"}
    listed = INSTRUCTIONS[task].split("These are the commands:\n\n")[1].split("\n\n")[0]
    told = {line.split()[0].strip(":") for line in listed.splitlines()}
    assert told >= {"goal", "go", "take"}
    assert told <= {command.split()[0] for command in commands}


def test_the_hints_of_the_cooking_game_name_its_commands() -> None:
    hints = INSTRUCTIONS["the_cooking_game"].split("Hints:")[1]
    assert re.findall("cookbook, (.*) it to read the recipe", hints) == ["examine"]
    assert "benchmark" not in hints


def test_the_walkthrough_wins(coin: Path) -> None:
    env = TextWorld("coin_collector", Given(coin))
    env.reset(0)
    *way, last = walkthrough(coin)
    for command in way:
        assert env.step(command)[1:] == (0.0, False, False)
        assert env.progression() == 0.0
    assert env.step(last)[1:] == (1.0, True, False)
    assert env.progression() == 1.0
    env.close()


@pytest.mark.slow
def test_a_lost_or_unfinished_game_is_worth_its_share_of_the_score_when_it_ends(meal: Path) -> None:
    env = TextWorld("the_cooking_game", Given(meal))
    env.reset(0)
    *way, _, _ = walkthrough(meal)
    rewards = [env.step(command)[1] for command in way]
    assert rewards[-1] > 0
    assert rewards == sorted(rewards)  # the score so far, at every step
    assert env.progression() == 0.0  # counts only at the end
    steps = len(way)
    while not env.step("look")[2]:
        steps += 1
    assert steps + 1 == env.max_steps == 80
    quests = json.loads(meal.with_suffix(".json").read_text())["quests"]
    assert 0 < env.progression() == rewards[-1] / sum(quest["reward"] for quest in quests) < 1
    env.close()


def test_the_first_observation_has_neither_banner_nor_objective(coin: Path) -> None:
    objective = json.loads(coin.with_suffix(".json").read_text())["objective"]
    env = TextWorld("coin_collector", Given(coin))
    observation = env.reset(0)
    assert observation.long_term_context.startswith("-= ")
    assert objective not in observation.long_term_context
    assert observation.image is None
    assert observation.short_term_context == ""
    # What stands behind the objective, as in the original: the prompt and the status line.
    assert env.step("goal")[0].long_term_context.split()[:2] == [">", "-="]
    env.close()


@pytest.mark.parametrize(
    "command",
    ["", " ", "\0", "look\0", "\0look", "quit", "yes", "restart", "x" * 100_000, "\u3000" * 300 + "x", "世" * 70,
     "\ud800", "look\nlook", "\x1b[2J", "undo", "verbose"],
)  # fmt: skip
def test_no_text_brings_the_interpreter_down(coin: Path, command: str) -> None:
    env = TextWorld("coin_collector", Given(coin))
    env.reset(0)
    assert env.check(command) == command
    env.step(command)
    observation, _, done, _ = env.step("look")
    assert not done
    assert isinstance(observation.long_term_context, str)
    env.close()


def test_what_a_game_saves_is_gone_with_its_episode(
    coin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env, other = TextWorld("coin_collector", Given(coin)), TextWorld("coin_collector", Given(coin))
    env.reset(0)
    start = other.reset(0)
    env.step(walkthrough(coin)[0])
    for command in ("save", "script", "look"):
        env.step(command)
    assert other.step("restore")[0].long_term_context.startswith("Restore failed.")
    assert other.step("look")[0].long_term_context.split()[:3] == start.long_term_context.split()[:3]
    assert env.step("restore")[0].long_term_context.startswith("Ok.")
    env.reset(0)
    assert env.step("restore")[0].long_term_context.startswith("Restore failed.")
    env.close()
    other.close()
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path
    assert not Path(env._folder).exists()


@pytest.mark.slow
def test_the_same_commands_are_the_same_episode(meal: Path) -> None:
    seen = []
    for _ in range(2):
        env = TextWorld("the_cooking_game", Given(meal))
        texts = [env.reset(0).long_term_context]
        texts += [env.step(command)[0].long_term_context for command in ("look", "inventory", "examine cookbook")]
        env.close()
        seen.append(texts)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) >= 3


def test_the_recipes_are_those_of_the_published_games() -> None:
    hunt, meal, coin = (RECIPES[task] for task in ("treasure_hunter", "the_cooking_game", "coin_collector"))
    assert (hunt.settings, hunt.walkthrough, hunt.only_last_action) == ({"level": 30}, 20, True)
    assert (coin.settings, coin.only_last_action) == ({"level": 220}, True)
    assert {key: meal.settings[key] for key in ("recipe", "take", "go", "split")} == {
        "recipe": 5, "take": 5, "go": 12, "split": "test"
    }  # fmt: skip
    assert all(meal.settings[skill] for skill in ("open", "cook", "cut"))


@pytest.fixture
def published(tmp_path: Path, coin: Path) -> Path:
    folder = tmp_path / "tw_games" / "some" / "coin_collector"
    folder.mkdir(parents=True)
    for name in ("b.z8", "a.z8"):
        shutil.copy(coin, folder / name)
        shutil.copy(coin.with_suffix(".json"), (folder / name).with_suffix(".json"))
    (folder / "z.ulx").write_bytes(b"Glul")
    shutil.copy(coin.with_suffix(".json"), folder / "z.json")
    return tmp_path


def test_published_games_come_in_the_originals_order(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textworld_games, "_kept", lambda path, command: Path(command[1]))
    games = PublishedGames(published, "coin_collector")
    assert [games.get(seed).stem for seed in range(4)] == ["z", "a", "b", "z"]
    assert make("textworld", "coin_collector", published).reset(1).long_term_context.startswith("-= ")


def test_published_games_that_are_not_there_are_named(published: Path) -> None:
    with pytest.raises(BenchmarkDataError, match=r"no games in a folder treasure_hunter; unpack"):
        PublishedGames(published, "treasure_hunter")
    (published / "tw_games" / "some" / "coin_collector" / "a.json").unlink()
    with pytest.raises(BenchmarkDataError, match=r"has no a\.json beside it"):
        PublishedGames(published, "coin_collector").get(1)


def test_the_digest_of_published_games_tells_when_one_changes(published: Path) -> None:
    digest = PublishedGames(published, "coin_collector").digest()
    assert PublishedGames(published, "coin_collector").digest() == digest
    (published / "tw_games" / "some" / "coin_collector" / "a.json").write_text("{}")
    assert PublishedGames(published, "coin_collector").digest() != digest


@pytest.mark.slow
def test_a_game_is_compiled_again_from_its_facts(coin: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.z8"
    recompile(coin.with_suffix(".json"), again)
    env = TextWorld("coin_collector", Given(again))
    env.reset(0)
    assert [env.step(command)[2] for command in walkthrough(coin)][-1]
    assert env.progression() == 1.0
    env.close()


def test_a_game_that_cannot_be_made_or_kept_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLDAC_CACHE", str(tmp_path / "file"))
    with pytest.raises(BenchmarkDataError, match=r"cannot be kept: .*; set VLDAC_CACHE"):
        MadeGames("coin_collector").get(0)


@pytest.mark.slow
def test_made_games_are_the_same_in_every_process_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name, hash_seed in (("one", "1"), ("two", "2")):
        monkeypatch.setenv("VLDAC_CACHE", str(tmp_path / name))
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        path = MadeGames("the_cooking_game").get(13)
        assert path.stem == "3"
        assert sorted(file.name for file in path.parent.iterdir()) == ["3.json", "3.z8"]
        written = os.stat(path).st_mtime_ns
        assert MadeGames("the_cooking_game").get(3) == path
        assert os.stat(path).st_mtime_ns == written
        made.append(walkthrough(path))
    assert made[0] == made[1]
    env = make("textworld", "the_cooking_game")
    env.reset(3)
    for command in made[0]:
        done = env.step(command)[2]
        if done:
            break
    assert (done, env.progression()) == (True, 1.0)
    env.close()
