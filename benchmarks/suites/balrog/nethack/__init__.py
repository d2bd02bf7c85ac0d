"""NetHack for BALROG: the whole game (NLE, Kuettler et al. 2020) and eight levels of MiniHack (Samvelyan et al. 2021).

The packages nle and minihack are imported when the first game is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from benchmarks.suites.balrog.environment import Environment
from benchmarks.suites.balrog.nethack import boxoban
from benchmarks.suites.balrog.nethack.actions import MINIHACK
from envs.base import MissingSimulatorError, how_to_install

#: By environment.
TASKS = {"nle": ("NetHackChallenge-v0",), "minihack": tuple(MINIHACK)}
#: Names the folder with the published Boxoban maps.
MAPS_VARIABLE = "BOXOBAN_MAPS"


def make(environment: str, task: str, *, vision: bool = True, maps: Path | None = None) -> Environment:
    """A task of NLE or MiniHack.

    Args:
        environment: a key of `TASKS`.
        task: one of its tasks.
        vision: with a picture, or as BALROG shows the game to language models.
        maps: folder with the published Boxoban maps; None takes the one that BOXOBAN_MAPS names, and puzzles that are
            made here if it names none.

    Raises:
        ValueError: there is no such task.
        MissingSimulatorError: a package is not installed.
    """
    if task not in TASKS.get(environment, ()):
        known = ", ".join(f"{name}/{known}" for name, tasks in TASKS.items() for known in tasks)
        raise ValueError(f"no task {environment}/{task}; the tasks are {known}")
    try:
        from benchmarks.suites.balrog.nethack import game  # noqa: PLC0415
        from benchmarks.suites.balrog.nethack.levels import minihack_folder  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingSimulatorError(
            f"{environment} needs the package {error.name!r}, which is not installed: {how_to_install('nethack')}",
            name=error.name,
        ) from error
    if environment == "nle":
        return game.NetHack(vision=vision)
    minihack_folder()
    return game.MiniHack(task, vision=vision, maps=maps or _maps_named())


def synthetic(environment: str, task: str, *, maps: Path | None = None) -> bool:
    """Whether the levels of a task are made here and only resemble the published ones, with the arguments of `make`."""
    return environment == "minihack" and task in boxoban.SETS and (maps or _maps_named()) is None


def digests(tasks: Iterable[str], *, maps: Path | None = None) -> dict[str, str]:
    """A hash of the published maps of each of MiniHack's tasks that is played on such, with the arguments of `make`.

    Raises:
        BenchmarkDataError: the folder does not hold them.
    """
    folder = maps or _maps_named()
    return {task: boxoban.digest(task, folder) for task in tasks if folder is not None and task in boxoban.SETS}


def _maps_named() -> Path | None:
    name = os.environ.get(MAPS_VARIABLE)
    return Path(name) if name else None
