"""MiniHack's levels: their descriptions, and the game's data file that a description is compiled into.

The package minihack is used as a folder of data only. Importing it needs `pkg_resources`, which setuptools dropped, and
loads every one of its tasks. Descriptions that it keeps in files are read from it; those that its classes
(`envs/mazewalk.py`, `envs/fightcorridor.py`, `envs/boxohack.py`, Apache License 2.0) put together line by line are put
together here, with the same lines in the same order, since each random choice of a level is made in that order.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from nle.nethack.nethack import HACKDIR

from benchmarks.suites.balrog.nethack.sokoban import Place, Puzzle
from envs.base import MissingSimulatorError, SimulatorError, how_to_install

#: Seconds; a level compiles in a few milliseconds.
_DEADLINE = 60


class LevelError(SimulatorError):
    """A level does not compile; the message is the compiler's first line."""


def minihack_folder() -> Path:
    """Where the package minihack is installed.

    Raises:
        MissingSimulatorError: it is not.
    """
    spec = find_spec("minihack")
    if spec is None or not spec.submodule_search_locations:
        raise MissingSimulatorError(
            f"MiniHack needs the package minihack; install it with: {how_to_install('nethack')}"
        )
    return Path(spec.submodule_search_locations[0])


def shipped(name: str) -> str:
    """A description that MiniHack keeps in a file, such as "quest_easy"."""
    return (minihack_folder() / "dat" / f"{name}.des").read_text(encoding="ascii")


def mazewalk(side: int) -> str:
    """A maze of side x side places (odd) inside a wall, with the stairs anywhere in it."""
    last = side + 1
    return _level(
        ["." * (side + 2)] * (side + 2),
        flags="hardfloor",
        lines=(
            f"TERRAIN:rect (0,0,{last},{last}),'-'",
            f"TERRAIN:fillrect (1,1,{last - 1},{last - 1}),' '",
            f"MAZEWALK:({(side + 2) // 2},{(side + 2) // 2}),east",
            "STAIR:random,down",
        ),
    )


def dark_corridor_battle() -> str:
    """Two dark rooms, a corridor between them, six giant rats in front of the stairs."""
    rooms = (
        "-----       ----------------------",
        "|...|       |....................|",
        "|....#######.....................|",
        "|...|       |....................|",
        "-----       ----------------------",
    )
    rats = [f'MONSTER:"giant rat",({x}, {y})' for x in (30, 31) for y in (1, 2, 3)]
    return _level(
        rooms,
        flags="hardfloor",
        lit=False,
        lines=("BRANCH:(1,1,3,3),(0,0,0,0)", *rats, "STAIR:(32, 2),down"),
    )


def boxoban(problem: Puzzle) -> str:
    """A Sokoban puzzle: iron bars for walls, boulders for boxes, fountains for goals."""

    def at(place: Place) -> str:
        return f"({place[1]}, {place[0]})"

    row, column = problem.player
    elsewhere = (abs(column - 1), abs(row - 1))
    return _level(
        ["".join("F" if character == "#" else "." for character in line) for line in problem.rows],
        flags="noteleport,premapped",
        lines=(
            *(f'OBJECT: "boulder", {at(box)}' for box in sorted(problem.boxes)),
            *(f"FOUNTAIN: {at(goal)}" for goal in sorted(problem.goals)),
            f"BRANCH:({column},{row},{column},{row}),({elsewhere[0]},{elsewhere[1]},{elsewhere[0]},{elsewhere[1]})",
        ),
    )


def _level(rows: Sequence[str], *, flags: str, lines: Sequence[str], lit: bool = True) -> str:
    """A description as MiniHack's LevelGenerator begins it, followed by the lines."""
    return "\n".join(
        (
            "MAZE: \"mylevel\", ' '",
            f"FLAGS:{flags}",
            "INIT_MAP: solidfill,' '",
            "GEOMETRY:center,center",
            "MAP",
            *rows,
            "ENDMAP",
            f'REGION:(0,0,{len(rows[0])},{len(rows)}),{"lit" if lit else "unlit"},"ordinary"',
            *lines,
            "",
        )
    )


@lru_cache(maxsize=32)  # most tasks have one description for all their episodes
def compiled(description: str) -> bytes:
    """The game's data file (`nhdat`) whose only level is the described one, as `mh_patch_nhdat.sh` makes it.

    Raises:
        LevelError: the description is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="level") as name:
        folder = Path(name)
        source = folder / "mylevel.des"
        source.write_text(description, encoding="ascii")
        shutil.copytree(minihack_folder() / "lib", folder, dirs_exist_ok=True)
        _run(folder, "lev_comp", source.name)
        source.unlink()
        _run(folder, "dlb", "cf", "nhdat", *sorted(file.name for file in folder.iterdir()))
        return (folder / "nhdat").read_bytes()


def install(description: str, folder: Path) -> None:
    """Makes a game that has not begun yet play the described level.

    Args:
        description: of the level.
        folder: the game's own, where nle has put a link to the usual data file.
    """
    data = compiled(description)
    (folder / "nhdat").unlink()
    (folder / "nhdat").write_bytes(data)


def _run(folder: Path, program: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(Path(HACKDIR) / program), *arguments],
        cwd=folder,
        capture_output=True,
        timeout=_DEADLINE,
        check=False,
    )
    if done.returncode or done.stderr:
        said = (done.stderr or done.stdout).decode("latin-1").strip().partition("\n")[0]
        raise LevelError(f"{program} failed: {said or f'exit status {done.returncode}'}")
