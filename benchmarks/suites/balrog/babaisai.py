"""Baba Is AI (Cloos et al. 2024, arXiv 2407.13729): a puzzle whose rules are part of the level.

Source: balrog-ai/BALROG, `balrog/environments/babaisai`. The game is the package `baba` of nacloos/baba-is-ai.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import baba
import numpy as np
from baba.world_object import name_mapping

from benchmarks.suites.balrog.environment import Environment, Observation

_ACTIONS = {
    "idle": "let one step pass",
    "up": "go one step up",
    "right": "go one step to the right",
    "down": "go one step down",
    "left": "go one step to the left",
}
_DESCRIBED = ("fball", "fwall", "fdoor", "fkey", "rule_object", "rule_is", "rule_property")


class BabaIsAI(Environment):
    """One kind of puzzle.

    Observations: the rules in force and where everything is as seen from the player, and the picture.

    Rewards: the game's.

    Episodes terminate as the game decides.

    Args:
        task: the game's own name of the puzzle, such as "env/goto_win".
    """

    actions = tuple(_ACTIONS)
    default_action = "idle"

    def __init__(self, task: str) -> None:
        self._task = task
        # The game draws from Python's and NumPy's global generators; each episode has their states to itself.
        self._random: tuple[Any, Any] = (random.getstate(), np.random.get_state())
        self._game: Any = None
        self._progression = 0.0

    @property
    def max_steps(self) -> int:  # type: ignore[override]  # known when an episode has begun
        """Of the episode that has begun."""
        return int(self._game.max_steps)

    def reset(self, seed: int) -> Observation:
        """Draws the puzzle of this seed."""
        with self._own_random():
            _seed_all(seed)
            self._game = baba.make(self._task)
            _seed_all(seed)
            self._game.reset()
            self._progression = 0.0
            return self._observation()

    def step(self, action: str) -> tuple[Observation, float, bool, bool]:
        """Takes one of the five actions."""
        with self._own_random():
            _, reward, done, _ = self._game.step(self.actions.index(action))
            if done:
                self._progression = 1.0 if reward > 0 else 0.0
            return self._observation(), float(reward), bool(done), False

    def instruction(self) -> str:
        """The game and the actions."""
        actions = ",\n".join(f"{name}: {meaning}" for name, meaning in _ACTIONS.items())
        return (
            "You play Baba Is You, a puzzle in which the rules of a level can be changed, and are to win the level.\n"
            f"These are the actions that you can take, each with what it does:\n\n{actions}.\n\n"
            "Hints:\n"
            "- Look closely at the level, at its objects as well as at its blocks of text.\n"
            '- Find the rules in force: three blocks in a row, "[Subject] IS [Property]", such as "BABA IS YOU".\n'
            "- Think of how pushing blocks of text would change rules or make new ones.\n"
            '- Only what is not "STOP" or fixed in another way can be moved.\n'
            '- As a rule you have to reach something that is "WIN", but this too can change.\n'
            "- A changed rule can change what objects are and do in unexpected ways.\n"
            "- When you are stuck, break a rule apart or form a new one.\n"
            "- Sometimes you have to become another object, or to change what wins.\n\n"
            "PLAY!"
        )

    def progression(self) -> float:
        """1 where the episode ended with a reward, else 0."""
        return self._progression

    def _observation(self) -> Observation:
        rules = _rules(self._game)
        objects, prefix = _objects(self._game), ""
        if objects is None:
            # Nothing is "you" any more. BALROG begins the level again and prints the new observation's Python object
            # below the old rules; here its text stands in that place, for the object's holds a memory address.
            prefix = "[...] IS YOU rule was broken, environment reset"
            self._game.reset()
            self._progression = 0.0
            objects = self._observation().long_term_context
        text = f"{prefix}Active rules:\n{rules}\n\nObjects on the map:\n{objects}"
        image = np.array(self._game.render(mode="rgb_array"), dtype=np.uint8)[..., :3]
        return Observation(text, image=image)

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        outside = random.getstate(), np.random.get_state()
        _restore(self._random)
        try:
            yield
        finally:
            self._random = random.getstate(), np.random.get_state()
            _restore(outside)


def _rules(game: Any) -> str:
    """The rules that give an object a property, a line for each."""
    return "\n".join(
        f"{rule['object'].removeprefix('f')} is {name_mapping[rule['property']]}"
        for rule in game.grid._ruleset["_rule_"]
        if "object" in rule
    )


def _objects(game: Any) -> str | None:
    """Where objects and blocks of text are as seen from the player, row by row; None where there is no player."""
    you = None
    for rule in game.grid._ruleset["_rule_"]:
        if "property" in rule and name_mapping[rule["property"]] == "you":
            you = rule["object"]
    players = list(_find(game, lambda kind: kind == you))
    if not players:
        return None
    x, y, _ = players[0]
    return "\n".join(
        _place(name.removeprefix("f"), column - x, row - y)
        for column, row, name in _find(game, lambda kind: kind in _DESCRIBED)
    )


def _find(game: Any, wanted: Callable[[str], bool]) -> Iterator[tuple[int, int, str]]:
    for row in range(game.height):
        for column in range(game.width):
            cell = game.grid.get(column, row)
            if cell is None or not wanted(cell.type):
                continue
            name = cell.type
            if name == "rule_object":
                name = f"rule `{cell.name}`"
            elif name == "rule_is":
                name = f"rule `{name_mapping[cell.name]}`"
            elif name == "rule_property":
                name = f"rule `{name_mapping[cell.property]}`"
            yield column, row, name


def _place(name: str, right: int, down: int) -> str:
    """A line of the map; what stands where the player stands gets an empty one.

    To the left and up the original always writes "step" (`babaisai/base.py` asks whether the negative count exceeds 1).
    """
    places = []
    if right:
        places.append(
            f"{right} step{'s' if right > 1 else ''} to the right" if right > 0 else f"{-right} step to the left"
        )
    if down:
        places.append(f"{down} step{'s' if down > 1 else ''} down" if down > 0 else f"{-down} step up")
    return f"{name} {' and '.join(places)}" if places else ""


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)


def _restore(state: tuple[Any, Any]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
