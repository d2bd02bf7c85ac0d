"""The engine against the plain engine of textworld and alfworld, and the parts that it is made of."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos
from textworld.envs import PddlEnv

from envs.alfworld import store, translation
from envs.alfworld.engine import REFUSAL, Engine
from envs.alfworld.facts import Facts
from envs.alfworld.game import PLACEHOLDER, TASKS, Game
from envs.alfworld.games import generated_game
from envs.alfworld.generator import GameId
from envs.alfworld.grammar import Entity, Grammar, GrammarError
from envs.base import SimulatorError


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLDAC_CACHE", str(tmp_path_factory.getbasetemp() / "alfworld-cache"))
        patch.setenv("ALFWORLD_DATA", str(tmp_path_factory.mktemp("no-official-games")))
        yield


def upstream() -> Any:
    infos = textworld.EnvInfos(admissible_commands=True, won=True, extras=["gamefile"])
    return AlfredInfos(AlfredDemangler(PddlEnv(infos)))


def write_game_file(game: Game, path: Path) -> Path:
    """A game in the schema of the official ones."""
    values = {
        "pddl_domain": game.domain,
        "grammar": game.grammar.replace(PLACEHOLDER, game.text),
        "pddl_problem": game.problem,
        "solvable": True,
        "walkthrough": None,
    }
    path.write_text(json.dumps(values))
    return path


def assert_plays_alike(game: Game, path: Path, seed: int, steps: int) -> None:
    theirs, ours = upstream(), Engine()
    theirs.load(str(write_game_file(game, path)))
    state = theirs.reset()
    ours.start(game)
    choose = random.Random(seed)
    changing = ("take", "move", "open", "close", "use", "heat", "cool", "clean", "slice")
    for _ in range(steps):
        assert ours.feedback == state.feedback
        assert list(ours.commands) == state["admissible_commands"]
        assert ours.won == state["won"]
        commands = [c for c in ours.commands if c.split()[0] in changing and choose.random() < 0.6] or ours.commands
        command = choose.choice([*commands, "fly away"])
        state, _, _ = theirs.step(command)
        ours.step(command)
    ours.close()


@pytest.mark.parametrize("number", range(3))
def test_small_games_play_as_upstream(number: int, tmp_path: Path) -> None:
    game = generated_game(GameId("train", "pick_and_place_simple", "small", number))
    assert_plays_alike(game, tmp_path / "game.tw-pddl", number, steps=30)


def test_whole_rooms_play_as_upstream(tmp_path: Path) -> None:
    game = generated_game(GameId("train", "look_at_obj_in_light", "all", 0))
    assert_plays_alike(game, tmp_path / "game.tw-pddl", 5, steps=15)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_plays_as_upstream(task: str, tmp_path: Path) -> None:
    game = generated_game(GameId("valid_unseen", task, "all", 0))
    assert_plays_alike(game, tmp_path / "game.tw-pddl", 7, steps=40)


def test_engines_do_not_disturb_each_other() -> None:
    games = [generated_game(GameId("train", "pick_and_place_simple", "small", number)) for number in range(3)]

    def play(engine: Engine, seed: int) -> Iterator[tuple[str, tuple[str, ...], bool]]:
        choose = random.Random(seed)
        for _ in range(15):
            engine.step(choose.choice(engine.commands))
            yield engine.feedback, engine.commands, engine.won

    alone = []
    for seed, game in enumerate(games):
        engine = Engine()
        engine.start(game)
        alone.append(list(play(engine, seed)))
        engine.close()
    engines = [Engine() for _ in games]
    for engine, game in zip(engines, games, strict=True):
        engine.start(game)
    together = list(zip(*(play(engine, seed) for seed, engine in enumerate(engines)), strict=True))
    assert [list(episode) for episode in zip(*together, strict=True)] == alone
    for engine in engines:
        engine.close()
        engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engines[0].start(games[0])


def test_what_is_not_accepted_changes_nothing() -> None:
    engine = Engine()
    engine.start(generated_game(GameId("train", "pick_and_place_simple", "small", 0)))
    before = engine.commands, engine.won, [engine.facts.of(p) for p in ("atlocation", "inreceptacle", "opened")]
    for command in ("", "fly", "GO TO", "take everything", "look " * 1000):
        engine.step(command)
        assert engine.feedback == REFUSAL
    assert before == (
        engine.commands,
        engine.won,
        [engine.facts.of(p) for p in ("atlocation", "inreceptacle", "opened")],
    )
    engine.close()


def test_libraries_are_used_again_and_end_cleanly() -> None:
    """Unloading one of several copies of fast-downward makes the process crash when it ends."""
    code = (
        "from envs.alfworld.engine import Engine\n"
        "from envs.alfworld.games import generated_game\n"
        "from envs.alfworld.generator import GameId\n"
        "def copies(): return len({l.split()[5] for l in open('/proc/self/maps') if 'libdownward' in l})\n"
        "game = generated_game(GameId('train', 'pick_and_place_simple', 'small', 0))\n"
        "for _ in range(5):\n"
        "    engines = [Engine() for _ in range(3)]\n"
        "    for engine in engines: engine.start(game)\n"
        "    assert copies() == 3, copies()\n"
        "    for engine in engines: engine.close()\n"
        "assert copies() == 3, copies()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_facts() -> None:
    facts = Facts([("on", "pen", "desk"), ("on", "mug", "desk"), ("on", "cup", "shelf"), ("open", "desk")])
    assert facts.of("on") == [("cup", "shelf"), ("mug", "desk"), ("pen", "desk")]
    assert [m["o"] for m in facts.matches([("on", ("o", "r")), ("open", ("r",))], {})] == ["mug", "pen"]
    assert list(facts.matches([("on", ("o", "r"))], {"o": "cup", "r": "desk"})) == []
    assert list(facts.matches([("on", ("o", "r"))], {"r": "shelf"})) == [{"o": "cup", "r": "shelf"}]
    # Different variables stand for different things.
    pairs = facts.matches([("on", ("a", "r")), ("on", ("b", "r"))], {})
    assert [(m["a"], m["b"]) for m in pairs] == [("mug", "pen"), ("pen", "mug")]
    facts.add("not_open", ("desk",))
    assert ("open", "desk") not in facts
    assert ("not_open", "desk") in facts
    facts.add("open", ("desk",))
    assert ("not_open", "desk") not in facts


def derived(text: str) -> str:
    facts = Facts([("on", "m1", "d1"), ("on", "p1", "d1")])
    entities = {"m1": Entity("m1", "mug 1"), "p1": Entity("p1", "pen 1"), "d1": Entity("d1", "desk 1")}
    return Grammar({}).derive(text, facts, {"r": "d1", "o": "m1"}, entities)


def test_grammar() -> None:
    assert derived("move {o} to {r.name}") == "move mug 1 to desk 1"
    assert derived("{o.indefinite + ' ' + o.name}") == "a mug 1"
    assert derived("{o.name or o.id}, {x.id | on(x:object, r:receptacle)}") == "mug 1, p1"


@pytest.mark.parametrize(
    "text",
    [
        "{__import__('os').getcwd()}",
        "{o.__class__}",
        "{o.name.upper()}",
        "{(lambda: o)()}",
        "{o.name * 1000000}",
        "{o and r}",
        "{o.name +}",
        "#nowhere#",
    ],
)
def test_grammars_cannot_run_code(text: str) -> None:
    with pytest.raises(GrammarError):
        derived(text)


@pytest.mark.parametrize("damage", [b"", b"garbage", "half", "flipped"])
def test_damaged_translations_are_made_again(damage: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLDAC_CACHE", str(tmp_path))
    game = generated_game(GameId("train", "pick_and_place_simple", "small", 1))
    translation._kept.cache_clear()
    first = translation.translate(game.domain, game.problem)
    (path,) = store.cache_directory().glob("translations/*/*.gz")
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"half": whole[:middle], "flipped": flipped}.get(damage, damage))
    translation._kept.cache_clear()
    again = translation.translate(game.domain, game.problem)
    assert sorted(again.facts) == sorted(first.facts)
    translation._kept.cache_clear()
    assert translation._decode(path.read_bytes()) == again


def test_a_cache_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLDAC_CACHE", str(tmp_path / "file"))
    with pytest.raises(SimulatorError, match="set VLDAC_CACHE") as error:
        store.write(store.cache_directory() / "x", b"")
    assert "\n" not in str(error.value)
    with pytest.raises(SimulatorError, match="set VLDAC_CACHE"):
        store.read(store.cache_directory() / "x", 10)


def test_files_longer_than_their_limit_are_not_read(tmp_path: Path) -> None:
    store.write(tmp_path / "a" / "b", b"12345")
    assert store.read(tmp_path / "a" / "b", 5) == b"12345"
    assert store.read(tmp_path / "a" / "b", 4) is None
    assert store.read(tmp_path / "a" / "c", 4) is None
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
