"""Games downloaded with `alfworld-download`: json_2.1.1/{train,valid_seen,valid_unseen}/TASK-.../TRIAL/game.tw-pddl."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from envs.alfworld.game import PLACEHOLDER, TASKS, Game, goal_of
from envs.alfworld.games import Games
from envs.base import SimulatorError

#: In the paths of tasks with movable receptacles or sliced objects, which `AlfredTWEnv` leaves out as well.
_UNSUPPORTED = ("movable", "Sliced")
_MAX_BYTES = 16 * 2**20
_TASK = re.compile(r"Your task is to: ([^\"\n]*)\.\"")


def data_directory() -> Path:
    """Where `alfworld` looks for its data: `$ALFWORLD_DATA`, or `~/.cache/alfworld`."""
    return Path(os.environ.get("ALFWORLD_DATA") or Path.home() / ".cache" / "alfworld")


class OfficialGames(Games):
    """The official games of a split.

    Args:
        split: one of `envs.alfworld.game.SPLITS`.
        tasks: the task types to play.
        games: at most how many of each type, the first ones in the order of their paths; None for all.
    """

    def __init__(self, split: str, tasks: Iterable[str], games: int | None) -> None:
        found = _index(str(data_directory() / "json_2.1.1" / split))
        self._files = {task: found.get(task, ())[:games] for task in tasks}

    @property
    def missing(self) -> list[str]:
        """The task types of which there is no game."""
        return [task for task, files in self._files.items() if not files]

    def count(self, task: str) -> int:
        """See `Games`."""
        return len(self._files[task])

    def get(self, task: str, number: int) -> Game:
        """The game of this number, or where `alfworld` could not win that one, the next that it could.

        Raises:
            SimulatorError: a file cannot be read, or no game of the type can be won.
        """
        files = self._files[task]
        for path in (*files[number:], *files[:number]):
            game = _read_game(path)
            if game is not None and game.goal.task == task:
                return game
        raise SimulatorError(f"none of the {len(files)} games of {task} can be won; download them again")


@lru_cache(maxsize=8)
def _index(folder: str) -> dict[str, tuple[Path, ...]]:
    """The games below a folder by task type, sorted by path."""
    found: dict[str, list[Path]] = {task: [] for task in TASKS}
    for path in sorted(Path(folder).glob("*/*/game.tw-pddl")):
        name = path.relative_to(folder).parts[0]
        task = name.partition("-")[0]
        if task in found and not any(word in str(path.relative_to(folder)) for word in _UNSUPPORTED):
            found[task].append(path)
    return {task: tuple(paths) for task, paths in found.items()}


def _read_game(path: Path) -> Game | None:
    """A game, or None where it is marked as one that cannot be won."""
    values = _read_json(path)
    if not values.get("solvable"):
        return None
    goal = goal_of(_read_json(path.with_name("traj_data.json")))
    try:
        domain, problem, grammar = (str(values[key]) for key in ("pddl_domain", "pddl_problem", "grammar"))
    except KeyError as error:
        raise SimulatorError(f"{path} has no {error}; download the games again") from error
    told = _TASK.search(grammar)
    if told is None:
        raise SimulatorError(f"{path} does not tell its task; download the games again")
    # With the task taken out, games share one grammar, which is parsed once.
    return Game(goal, told[1], domain, problem, grammar.replace(told[1], PLACEHOLDER))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        values = json.loads(data) if len(data) <= _MAX_BYTES else None
    except (OSError, ValueError) as error:
        raise SimulatorError(f"{path} cannot be read: {' '.join(str(error).split())}; download it again") from error
    if not isinstance(values, dict):
        raise SimulatorError(f"{path} is no game of ALFWorld; download it again")
    return values
