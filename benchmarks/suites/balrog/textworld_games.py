"""Where TextWorld's games come from: BALROG's folder `tw_games`, or made here, once, and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from benchmarks.harness.task import BenchmarkDataError
from envs.base import how_to_install

FOLDER = "tw_games"
#: Games of a task that are made here: as many as BALROG has episodes.
COUNT = 10
#: Seconds; a treasure hunt of twenty rooms takes one to some minutes.
DEADLINE = 3600
_ROOT = Path(__file__).parents[3]


class Games(Protocol):
    """The games of one task."""

    def get(self, seed: int) -> Path:
        """The game of this seed."""
        ...

    def digest(self) -> str:
        """Changes whenever a game changes."""
        ...


class PublishedGames:
    """The games of BALROG's download, in its order: Glulx files (`.ulx`) by name, then Z-machine files (`.z8`).

    TextWorld 1.7 plays no Glulx files. Such a game is compiled again from the facts beside it, `.json`.

    Args:
        data: the folder that holds `tw_games`.
        task: whose games are in a folder of its name somewhere below.

    Raises:
        BenchmarkDataError: there are none.
    """

    def __init__(self, data: Path, task: str) -> None:
        self._paths = [
            path
            for suffix in (".ulx", ".z8")
            for path in sorted((data / FOLDER).glob(f"**/*{suffix}"))
            if path.parent.name == task
        ]
        if not self._paths:
            raise BenchmarkDataError(
                f"{data / FOLDER} has no games in a folder {task}; unpack BALROG's tw-games.zip into {data}, "
                "or give no data folder and have games made"
            )

    def get(self, seed: int) -> Path:
        """The game at the seed's remainder, which a Z-machine plays.

        Raises:
            BenchmarkDataError: its facts are missing or could not be compiled.
        """
        path = self._paths[seed % len(self._paths)]
        facts = path.with_suffix(".json")
        if not facts.is_file():
            raise BenchmarkDataError(f"{path} has no {facts.name} beside it; unpack BALROG's tw-games.zip again")
        if path.suffix == ".z8":
            return path
        kept = _cache_directory() / "recompiled" / f"{_file_digest([facts])}.z8"
        return _kept(kept, ["recompile", str(facts.resolve())])

    def digest(self) -> str:
        """Of all files that decide the games."""
        return _file_digest(sorted({*self._paths, *(path.with_suffix(".json") for path in self._paths)}))


class MadeGames:
    """Ten games of a task, made as BALROG's were.

    Args:
        task: as `textworld_make.RECIPES` names it.
    """

    def __init__(self, task: str) -> None:
        self._task = task

    def get(self, seed: int) -> Path:
        """The game at the seed's remainder.

        Raises:
            BenchmarkDataError: it could not be made or kept.
        """
        number = seed % COUNT
        path = _cache_directory() / self.digest() / self._task / f"{number}.z8"
        return _kept(path, ["generate", self._task, str(number)])

    def digest(self) -> str:
        """Of the program that makes them and of TextWorld's version."""
        return _source_digest()


def games_of(task: str, data: Path | None) -> PublishedGames | MadeGames:
    """The games of a task: the published ones where there is a folder of data, else made ones."""
    return MadeGames(task) if data is None else PublishedGames(data, task)


def _kept(path: Path, command: Sequence[str]) -> Path:
    """A file of the cache, which is made where it is not there; others see it complete or not at all."""
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            made = Path(folder) / path.name
            _run([*command, str(made)])
            # The facts come first: a game without them cannot be scored.
            for name in (path.with_suffix(".json").name, path.name):
                os.replace(made.with_name(name), path.with_name(name))
    except OSError as error:
        raise BenchmarkDataError(
            f"TextWorld's games cannot be kept: {error}; set VLDAC_CACHE to a directory that can be written"
        ) from error
    return path


def _run(arguments: Sequence[str]) -> None:
    search = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        subprocess.run(
            [sys.executable, "-P", "-m", "benchmarks.suites.balrog.textworld_make", *arguments],
            env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": search},
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkDataError(
            f"a TextWorld game was not made within {DEADLINE} seconds: {arguments}; try again"
        ) from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise BenchmarkDataError(
            f"TextWorld could not make a game: {lines[-1]}; install TextWorld again: {how_to_install('alfworld')}"
        ) from error


def _cache_directory() -> Path:
    """`$VLDAC_CACHE/balrog/textworld`, or below `~/.cache/vldac`."""
    root = Path(os.environ.get("VLDAC_CACHE") or Path.home() / ".cache" / "vldac")
    return root / "balrog" / "textworld"


@cache
def _source_digest() -> str:
    source = (files("benchmarks.suites.balrog") / "textworld_make.py").read_bytes()
    return hashlib.sha256(source + f"textworld=={version('textworld')}".encode()).hexdigest()[:16]


def _file_digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.parent.name}/{path.name}\0".encode())
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
