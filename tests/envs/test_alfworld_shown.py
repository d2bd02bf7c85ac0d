"""What the model is shown, and what it is not: pictures, prompts and descriptions."""

from __future__ import annotations

import itertools
import json
import random
import re
import string
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from envs.alfworld import ALFWorld, words
from envs.alfworld.drawing import draw
from envs.alfworld.engine import Engine
from envs.alfworld.expert import next_command
from envs.alfworld.facts import Facts
from envs.alfworld.game import TASKS
from envs.alfworld.games import generated_game
from envs.alfworld.generator import GameId
from envs.alfworld.grammar import Entity
from envs.alfworld.knowledge import Knowledge
from envs.base import EVALUATION_SEEDS, MAX_PROMPT_CHARACTERS
from envs.registry import make

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


def names_in(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+ \d+", re.sub(r"and \d+ more", "", text)))


@pytest.mark.parametrize("style", ["full", "terse"])
def test_nothing_is_shown_before_it_is_told(style: Any) -> None:
    """Every name in a prompt or description has been in what the game told or accepts."""
    env = make("ALFWorld-LookAtObjInLight-v0", width=32, height=32, prompt=style, options={"games": 1})
    unwrapped = env.unwrapped
    assert isinstance(unwrapped, ALFWorld)
    choose = random.Random(4)
    observation, _ = env.reset(seed=0)
    told: set[str] = set()
    for _ in range(40):
        told |= names_in(unwrapped._engine.feedback + ", " + ", ".join(unwrapped._engine.commands))
        assert names_in(observation["prompt"]) <= told
        assert names_in(unwrapped.describe()) <= told
        taking = [c for c in unwrapped.action_names if c.split()[0] in ("take", "open")]
        command = choose.choice(taking if taking and choose.random() < 0.4 else unwrapped.action_names)
        observation, _, terminated, truncated, _ = env.step(command)
        if terminated or truncated:
            break
    assert len(told) > 20
    env.close()


@pytest.mark.parametrize("rooms", ["small", "all"])
def test_hidden_things_change_nothing(rooms: str) -> None:
    """Pictures, prompts, descriptions and the expert are the same when what nobody has seen is taken away."""
    engine = Engine()
    game = generated_game(GameId("valid_unseen", PLACE if rooms == "small" else LOOK, rooms, 0))
    engine.start(game)
    known = Knowledge(engine.facts, engine.entities)
    predicates = ("atlocation", "receptacleatlocation", "inreceptacle", "openable", "opened", "holds")
    all_facts = [(predicate, *arguments) for predicate in predicates for arguments in engine.facts.of(predicate)]
    empty = Knowledge(Facts(fact for fact in all_facts if fact[0] != "inreceptacle"), engine.entities)
    for _ in range(2):
        assert np.array_equal(draw(known, 200, 200), draw(empty, 200, 200))
        assert words.terse_prompt(game.goal, known, ()) == words.terse_prompt(game.goal, empty, ())
        assert words.describe(game.goal, known) == words.describe(game.goal, empty)
        assert words.describe_briefly(game.goal, known) == words.describe_briefly(game.goal, empty)
        command = next_command(game.goal, known, engine.commands)
        assert command is not None
        assert command == next_command(game.goal, empty, engine.commands)
        # To the next receptacle, of which the other game knows only what is in that one.
        engine.step(command)
        known.observe(command, engine.facts, engine.entities)
        here = {n for n, place in known.receptacles.items() if place.contents is not None}
        ids = {id_ for id_, entity in engine.entities.items() if entity.name in here}
        facts = [(p, *arguments) for p in predicates for arguments in engine.facts.of(p)]
        empty.observe(command, Facts(f for f in facts if f[0] != "inreceptacle" or f[2] in ids), engine.entities)
    engine.close()


def test_pictures_show_every_change() -> None:
    unwrapped = ALFWorld(width=128, height=128, tasks=HEAT, split="valid_unseen", games=1)
    unwrapped.reset(seed=0)
    pictures = [unwrapped.render()]
    done = False
    while not done:
        observation, _, done, _, _ = unwrapped.step(unwrapped.expert_action())
        pictures.append(unwrapped.render())
        assert np.array_equal(observation["frames"], pictures[-1][None])
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(pictures))
    assert np.array_equal(unwrapped.step(None)[0]["frames"][0], pictures[-1])
    unwrapped.close()


FRIDGE = Entity("fridge_bar_1", "fridge 1")


@pytest.mark.parametrize("size", [64, 300])
def test_pictures_tell_states_apart(size: int) -> None:
    known = Knowledge(Facts([("receptacleatlocation", "fridge_bar_1", "l1")]), {"fridge_bar_1": FRIDGE})
    pictures = set()

    def show(**state: Any) -> None:
        for name, value in state.items():
            setattr(known if hasattr(known, name) else known.receptacles["fridge 1"], name, value)
        pictures.add(draw(known, size, size).tobytes())

    show()
    show(at="fridge 1")
    show(openable=True)  # closed
    show(open=True, contents=())
    show(contents=("mug 1",))
    show(states={"mug 1": ("hot",)})
    show(states={"mug 1": ("cool", "clean")})
    show(lit=("mug 1",))
    show(contents=("mug 1", "pan 1"))
    show(contents=("pan 1",), holding="mug 1", lit=())
    assert len(pictures) == 10


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 64), (64, 64), (300, 300), (640, 120)])
def test_pictures_of_any_size(width: int, height: int) -> None:
    for rooms, task in (("small", PLACE), ("all", LOOK)):
        unwrapped = ALFWorld(width=width, height=height, rooms=rooms, tasks=task, split="valid_unseen", games=1)
        unwrapped.reset(seed=0)
        for _ in range(3):
            frame = unwrapped.render()
            assert frame.shape == (height, width, 3)
            assert frame.dtype == np.uint8
            unwrapped.step(unwrapped.expert_action())
        if width >= 64 and height >= 64:
            assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 10
            corner = frame[-max(height // 10, 8) :, -width // 3 :]
            assert corner.max() > 150  # the label
            assert corner.min() < 80
        unwrapped.close()


@pytest.mark.parametrize("rooms", ["small", "all"])
@pytest.mark.parametrize("style", ["full", "terse"])
def test_prompts(rooms: str, style: Any) -> None:
    options = {"tasks": PLACE, "rooms": rooms, "games": 1}
    unwrapped = ALFWorld(width=16, height=16, prompt_style=style, **options)  # type: ignore[arg-type]
    for seed in (0, EVALUATION_SEEDS[0]):
        observation, _ = unwrapped.reset(seed=seed)
        for _ in range(12):
            text = observation["prompt"]
            assert f"ctions: {', '.join(unwrapped.action_names)}." in text
            assert len(text) <= MAX_PROMPT_CHARACTERS
            assert all(character in string.printable for character in text)
            assert unwrapped._game is not None
            if style == "full":
                assert list(json.loads(re.findall(r"\{.*\}", text)[0])) == ["thoughts", "action"]
                assert f"Your task is to: {unwrapped._game.text}." in text
            else:
                assert "\n" not in text
                assert text.startswith(f"put {unwrapped._game.goal.object} in {unwrapped._game.goal.parent}. ")
            left_out = set(unwrapped._engine.commands) - set(unwrapped.action_names)
            brief = rooms == "small" or style == "terse"
            assert {c.split()[0] for c in left_out} <= ({"look", "inventory", "examine", "help"} if brief else {"help"})
            assert {"help", "look"} <= left_out if brief else left_out == {"help"}
            for command in unwrapped._engine.commands:
                assert unwrapped.parse_action(command) == command
                assert unwrapped.parse_action(f"  {command.upper().replace(' ', '  ')}\n") == command
            assert len(unwrapped.describe().split()) <= 26
            observation, _, terminated, _, _ = unwrapped.step(unwrapped.expert_action())
            if terminated:
                break
    unwrapped.close()


def test_descriptions_tell_the_truth(small: ALFWorld) -> None:
    """Each part of a description, against the facts of the game."""
    choose = random.Random(3)
    seen = set()
    for seed in range(25):
        small.reset(seed=seed)
        for _ in range(20):
            assert small._game is not None
            assert small._known is not None
            goal, facts = small._game.goal, small._engine.facts
            name = {id_: entity.name for id_, entity in small._engine.entities.items()}
            text = words.describe(goal, small._known)
            held = next((name[thing] for _, thing in facts.of("holds")), "nothing")
            wrong = held != "nothing" and held.split()[0] != goal.object
            assert f"holding {held}{', not needed' if wrong else ''}." in text
            spot = next(location for _, location in facts.of("atlocation"))
            here = [name[place] for place, location in facts.of("receptacleatlocation") if location == spot]
            lies = {name[thing]: name[place] for thing, place in facts.of("inreceptacle")}
            assert text.endswith("in the middle") == (not here)
            need = text.removeprefix("need ").partition(". ")[0]
            if found := re.fullmatch(r"(\w+ \d+) in (\w+ \d+), (here|not here)", need):
                assert lies[found[1]] == found[2]
                assert found[1].split()[0] == goal.object
                assert (found[2] in here) == (found[3] == "here")
            elif found := re.fullmatch(r"(\w+), not found\. .*|(\w+), not found", need):
                assert held.split()[0] != goal.object
            else:
                found = re.fullmatch(r"(\w+ \d+), (here|not here)", need)
                assert found is not None
                assert held.split()[0] == goal.object
                assert found[1].split()[0] == goal.parent
                assert (found[1] in here) == (found[2] == "here")
            if here:
                id_ = next(i for i, n in name.items() if n == here[0])
                lid = ("open" if ("opened", id_) in facts else "closed") if ("openable", id_) in facts else ""
                assert text.endswith(f"at {here[0]} {lid}".strip())
            seen.add(re.sub(r"\w+ \d+", "X", text))
            command = small.expert_action() if choose.random() < 0.3 else choose.choice(small.action_names)
            if any(small.step(command)[2:4]):
                break
    assert len(seen) > 20


def test_brief_descriptions_tell_the_truth(small: ALFWorld) -> None:
    """Where what is needed next is, against the facts of the game and what has been looked into."""
    choose, kinds = random.Random(5), set()
    for seed in range(40):
        small.reset(seed=seed)
        for _ in range(20):
            assert small._game is not None
            assert small._known is not None
            goal, facts, known = small._game.goal, small._engine.facts, small._known
            name = {id_: entity.name for id_, entity in small._engine.entities.items()}
            lies = {name[thing]: name[place] for thing, place in facts.of("inreceptacle")}
            shut = {name[place] for (place,) in facts.of("openable")} - {name[place] for (place,) in facts.of("opened")}
            text = small.describe()
            held, rest = re.fullmatch(r"(?:holding ([^.]*)\. )?(.*)", text).groups()  # type: ignore[union-attr]
            needed = known.holding is not None and known.holding.split()[0] == goal.object
            assert (held is None) == (known.holding is None)
            assert held is None or held.removesuffix(", not needed").endswith(known.holding or "")
            assert held is None or held.endswith(", not needed") != needed
            if found := re.fullmatch(r"(\w+ \d+) in (\w+ \d+) (here|not here)( closed)?", rest):
                assert lies[found[1]] == found[2]
                where = found[2]
                kinds.add(f"seen {found[3]}")
            elif found := re.fullmatch(rf"{goal.object} not found\. (\w+ \d+) not searched", rest):
                assert known.receptacles[found[1]].contents is None
                kinds.add("not found")
                where = ""
            elif rest == f"{goal.object} not found. here closed":
                assert known.at in shut
                kinds.add("closed")
                where = ""
            else:
                found = re.fullmatch(r"(\w+ \d+) (here|not here)( closed)?", rest)
                assert found is not None, text
                assert needed
                assert found[1].split()[0] == goal.parent
                where = found[1]
                kinds.add(f"to {found[2]}{found[3] or ''}")
            if where:
                assert (known.at == where) == (" not here" not in rest)
                assert rest.endswith(" closed") == (known.at == where and where in shut)
            command = small.expert_action() if choose.random() < 0.5 else choose.choice(small.action_names)
            if small.step(command)[2]:
                break
    assert kinds == {"seen here", "seen not here", "not found", "closed", "to here", "to not here", "to here closed"}
