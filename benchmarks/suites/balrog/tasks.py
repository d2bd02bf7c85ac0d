"""BALROG's six environments: their tasks, their episodes, and how they are made.

Source: balrog-ai/BALROG, `balrog/config/config.yaml`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from benchmarks.harness.options import Profile
from benchmarks.suites.balrog import nethack
from benchmarks.suites.balrog.babyai_kinds import BabyAIKind
from benchmarks.suites.balrog.environment import Environment
from envs.base import MissingSimulatorError, UnknownEnvError, how_to_install

_BABYAI = "BabyAI-MixedTrainLocal-v0/"
_TWO_ROOMS = tuple(
    f"env/two_room-{puzzle}"
    for puzzle in (
        "goto_win", "goto_win-distr_obj_rule", "goto_win-distr_rule", "goto_win-distr_obj",
        "goto_win-distr_obj-irrelevant_rule", "goto_win-distr_win_rule",
        "break_stop-goto_win-distr_obj_rule", "break_stop-goto_win-distr_obj", "break_stop-goto_win-distr_rule",
        "break_stop-goto_win-distr_obj-irrelevant_rule", "break_stop-goto_win",
        "maybe_break_stop-goto_win-distr_obj_rule", "maybe_break_stop-goto_win", "maybe_break_stop-goto_win-distr_obj",
        "maybe_break_stop-goto_win-distr_rule", "maybe_break_stop-goto_win-distr_obj-irrelevant_rule",
        "make_win-distr_obj_rule", "make_win-distr_rule", "make_win", "make_win-distr_obj-irrelevant_rule",
        "make_win-distr_obj", "make_win-distr_win_rule",
        "break_stop-make_win-distr_obj_rule", "break_stop-make_win-distr_rule", "break_stop-make_win",
        "break_stop-make_win-distr_obj-irrelevant_rule", "break_stop-make_win-distr_obj",
        "make_you", "make_you-make_win", "make_wall_win",
    )
)  # fmt: skip


def _drawn_by_package(_task: str, _data: Path | None) -> bool:
    return False


def _no_files(_tasks: Sequence[str], _data: Path | None) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Spec:
    """One environment of the benchmark.

    Attributes:
        tasks: of the full protocol.
        episodes: of each task, in the full protocol.
        short_tasks: those that the short profile plays, one episode each.
        short_steps: after which the short profile ends an episode.
        packages: that it needs, as they are imported.
        make: makes a task's environment, given the folder of published data; imports the packages when it is called.
        extra: of this project, which installs them, see `how_to_install`.
        install: the command that installs them, where no extra does.
        synthetic: whether the games of a task are made here and only resemble the published ones, given the folder.
        digests: of the files that the games of some tasks come from, by task, given the folder.
    """

    tasks: tuple[str, ...]
    episodes: int
    short_tasks: tuple[str, ...]
    short_steps: int
    packages: tuple[str, ...]
    make: Callable[[str, Path | None], Environment]
    extra: str = "benchmarks"
    install: str = ""
    synthetic: Callable[[str, Path | None], bool] = _drawn_by_package
    digests: Callable[[Sequence[str], Path | None], Mapping[str, str]] = _no_files


# Each environment is imported when it is played: none needs the packages of another.
def _babyai(task: str, _data: Path | None) -> Environment:
    from benchmarks.suites.balrog.babyai import BabyAI  # noqa: PLC0415

    return BabyAI(next(kind for kind in get_args(BabyAIKind) if task == _BABYAI + kind))


def _babaisai(task: str, _data: Path | None) -> Environment:
    from benchmarks.suites.balrog.babaisai import BabaIsAI  # noqa: PLC0415

    return BabaIsAI(task)


def _textworld(task: str, data: Path | None) -> Environment:
    from benchmarks.suites.balrog.textworld import TextWorld  # noqa: PLC0415
    from benchmarks.suites.balrog.textworld_games import games_of  # noqa: PLC0415

    return TextWorld(task, games_of(task, data))


def _textworld_digests(tasks: Sequence[str], data: Path | None) -> dict[str, str]:
    from benchmarks.suites.balrog.textworld_games import games_of  # noqa: PLC0415

    return {task: games_of(task, data).digest() for task in tasks}


def _crafter(_task: str, _data: Path | None) -> Environment:
    from benchmarks.suites.balrog.crafter import Crafter  # noqa: PLC0415

    return Crafter()


ENVIRONMENTS: dict[str, Spec] = {
    "babyai": Spec(
        tasks=tuple(_BABYAI + kind for kind in get_args(BabyAIKind)),
        episodes=10,
        short_tasks=(_BABYAI + "goto", _BABYAI + "pickup", _BABYAI + "open"),
        short_steps=32,
        packages=("minigrid",),
        make=_babyai,
    ),
    "babaisai": Spec(
        tasks=(
            "env/make_win-distr_obj_rule", "env/goto_win-distr_obj_rule", "env/goto_win", "env/goto_win-distr_obj",
            "env/goto_win-distr_rule", "env/goto_win-distr_obj-irrelevant_rule", "env/make_win-distr_obj",
            "env/make_win-distr_rule", "env/make_win", "env/make_win-distr_obj-irrelevant_rule", *_TWO_ROOMS,
        ),
        episodes=3,
        short_tasks=("env/goto_win", "env/make_win"),
        short_steps=30,
        packages=("baba", "gym", "cv2"),
        make=_babaisai,
        install="pip install git+https://github.com/nacloos/baba-is-ai (it is not on PyPI)",
    ),
    "textworld": Spec(
        tasks=("treasure_hunter", "the_cooking_game", "coin_collector"),
        episodes=10,
        short_tasks=("the_cooking_game", "coin_collector"),  # making a treasure hunt takes minutes
        short_steps=30,
        packages=("textworld", "jericho"),
        make=_textworld,
        extra="alfworld",
        synthetic=lambda _task, data: data is None,
        digests=_textworld_digests,
    ),
    "crafter": Spec(
        tasks=("default",),
        episodes=10,
        short_tasks=("default",),
        short_steps=32,
        packages=("crafter",),
        make=_crafter,
    ),
    "nle": Spec(
        tasks=("NetHackChallenge-v0",),
        episodes=5,
        short_tasks=("NetHackChallenge-v0",),
        short_steps=24,
        packages=("nle",),
        extra="nethack",
        make=lambda task, _data: nethack.make("nle", task),
    ),
    "minihack": Spec(
        tasks=(
            "MiniHack-Boxoban-Hard-v0", "MiniHack-Boxoban-Medium-v0", "MiniHack-MazeWalk-9x9-v0",
            "MiniHack-MazeWalk-15x15-v0", "MiniHack-Corridor-R3-v0", "MiniHack-CorridorBattle-Dark-v0",
            "MiniHack-Quest-Easy-v0", "MiniHack-Quest-Medium-v0",
        ),
        episodes=5,
        short_tasks=("MiniHack-MazeWalk-9x9-v0", "MiniHack-Corridor-R3-v0"),
        short_steps=32,
        packages=("nle", "minihack"),
        extra="nethack",
        make=lambda task, _data: nethack.make("minihack", task),
        synthetic=lambda task, _data: nethack.synthetic("minihack", task),
        digests=lambda tasks, _data: nethack.digests(tasks),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Episode:
    """One episode of the benchmark.

    Attributes:
        environment: one of `ENVIRONMENTS`.
        task: one of its tasks.
        number: of the episode, from 0.
        seed: of `Environment.reset`.
        max_steps: after which it ends, None where the environment alone decides.
    """

    environment: str
    task: str
    number: int
    seed: int
    max_steps: int | None

    @property
    def id(self) -> str:
        """Unique in the benchmark."""
        return f"{self.environment}/{self.task}/{self.number:02d}"


def plan(names: Sequence[str], profile: Profile, limit: int | None, seed: int) -> list[Episode]:
    """All episodes of a benchmark, in a fixed order.

    The episodes of a task have consecutive seeds, so that a list of games is gone through before one comes again.

    Args:
        names: of environments.
        profile: `full` is BALROG's protocol.
        limit: episodes of each task; None takes the profile's.
        seed: of the benchmark.
    """
    episodes = []
    for name in names:
        spec = ENVIRONMENTS[name]
        short = profile == "short"
        count = limit or (1 if short else spec.episodes)
        for task in spec.short_tasks if short else spec.tasks:
            first = first_seed(seed, name, task)
            episodes += [
                Episode(name, task, number, first + number, spec.short_steps if short else None)
                for number in range(count)
            ]
    return episodes


def first_seed(seed: int, environment: str, task: str) -> int:
    """The seed of a task's first episode, below 2**31."""
    digest = hashlib.sha256(f"{seed}/{environment}/{task}".encode()).digest()
    return int.from_bytes(digest[:4]) // 2


def missing_packages(environment: str) -> list[str]:
    """The packages of an environment that are not installed."""
    return [package for package in ENVIRONMENTS[environment].packages if find_spec(package) is None]


def check_name(name: str) -> None:
    """Raises `UnknownEnvError`, with the nearest names, if BALROG has no environment of this name."""
    if name not in ENVIRONMENTS:
        near = difflib.get_close_matches(name, ENVIRONMENTS, n=3) or ENVIRONMENTS
        raise UnknownEnvError(f"BALROG has no environment {name!r}; choose from {', '.join(near)}")


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The environments to benchmark, in BALROG's order.

    Args:
        names: that were asked for; none asks for all that are installed.

    Raises:
        UnknownEnvError: there is no environment of a name.
        MissingSimulatorError: an environment that was asked for is not installed, or none is.
    """
    for name in names:
        check_name(name)
        if missing := missing_packages(name):
            raise _missing(name, missing[0])
    found = tuple(name for name in ENVIRONMENTS if name in names or (not names and not missing_packages(name)))
    if not found:
        raise MissingSimulatorError(f"no environment of BALROG is installed: {how_to_install('benchmarks')}")
    return found


def versions(names: Sequence[str]) -> dict[str, str]:
    """The versions of the packages that environments are made of; "" where a package has none."""
    found = {}
    for package in sorted({package for name in names for package in ENVIRONMENTS[name].packages}):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def make(environment: str, task: str, data: Path | None = None) -> Environment:
    """Makes an environment; the caller closes it.

    Args:
        environment: one of `ENVIRONMENTS`.
        task: one of its tasks.
        data: the folder of published data, such as TextWorld's games.

    Raises:
        UnknownEnvError: there is no such environment or task.
        MissingSimulatorError: a package is not installed; the message names the command that installs it.
        BenchmarkDataError: the published data is not what it should be.
    """
    chosen([environment])
    if task not in ENVIRONMENTS[environment].tasks:
        near = difflib.get_close_matches(task, ENVIRONMENTS[environment].tasks, n=3)
        raise UnknownEnvError(f"BALROG's {environment} has no task {task!r}; choose {' or '.join(near) or 'another'}")
    try:
        return ENVIRONMENTS[environment].make(task, data)
    except ModuleNotFoundError as error:
        if isinstance(error, MissingSimulatorError) or not error.name or error.name.startswith("benchmarks"):
            raise
        raise _missing(environment, error.name) from error


def surroundings() -> dict[str, Any]:
    """What decides the records besides options and code: the simulators that are installed, and Boxoban's maps."""
    maps = os.environ.get(nethack.MAPS_VARIABLE)
    installed = [name for name in ENVIRONMENTS if not missing_packages(name)]
    return {"maps": Path(maps) if maps else None, "packages": versions(installed)}


def _missing(environment: str, package: str) -> MissingSimulatorError:
    spec = ENVIRONMENTS[environment]
    install = spec.install or how_to_install(spec.extra)
    return MissingSimulatorError(
        f"BALROG's {environment} needs the package {package!r}, which is not installed: {install}", name=package
    )
