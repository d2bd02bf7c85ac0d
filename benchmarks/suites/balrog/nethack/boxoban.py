"""Which puzzle a Boxoban episode plays: one of the published maps, or one made here.

The published maps (google-deepmind/boxoban-levels) are text files of puzzles, each after a line `; number` and before
an empty line, in the folders `hard` and `medium/train`. None of them is kept here.
"""

from __future__ import annotations

import hashlib
import random
from functools import lru_cache
from pathlib import Path

from benchmarks.harness.task import BenchmarkDataError
from benchmarks.suites.balrog.nethack.sokoban import Puzzle, PuzzleError, generate, puzzle

#: By task: the folder of its maps, and how long the boxes of a puzzle made here are pulled about.
SETS = {"MiniHack-Boxoban-Hard-v0": ("hard", 40), "MiniHack-Boxoban-Medium-v0": ("medium/train", 20)}

#: Bytes; a published file of 1,000 maps has about 120,000.
_LARGEST = 16 * 2**20


def choose(task: str, seed: int, maps: Path | None) -> Puzzle:
    """The puzzle of an episode.

    Args:
        task: a key of `SETS`.
        seed: of the episode. Of the same files it chooses the map that BALROG chooses, where the file system happens
            to list them by name; BALROG does not sort them.
        maps: folder with the published maps; None makes a synthetic puzzle.

    Raises:
        BenchmarkDataError: the folder does not hold them.
    """
    folder, pulls = SETS[task]
    if maps is None:
        return generate(f"{task} {seed}", pulls)
    counts = _counts(maps / folder)
    index = random.Random(seed).choice(range(sum(count for _, count in counts)))
    for path, count in counts:
        if index < count:
            return _puzzle(path, index)
        index -= count
    raise AssertionError("an index is less than the sum of counts")


def digest(task: str, maps: Path) -> str:
    """A hash of the maps that the episodes of a task choose from: names and contents of their files.

    Raises:
        BenchmarkDataError: the folder does not hold them.
    """
    found = hashlib.sha256()
    for path, _ in _counts(maps / SETS[task][0]):
        found.update(f"{path.name} {path.stat().st_size}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


@lru_cache(maxsize=8)
def _counts(folder: Path) -> tuple[tuple[Path, int], ...]:
    """The files of a folder, in order, with how many maps each holds."""
    counts = tuple((path, len(_texts(path))) for path in sorted(folder.glob("*.txt")))
    if not sum(count for _, count in counts):
        raise BenchmarkDataError(
            f"{folder} holds no Boxoban maps; download them from github.com/google-deepmind/boxoban-levels"
        )
    return counts


def _texts(path: Path) -> list[list[str]]:
    """The lines of each map of a file; what no empty line follows is no map, as in MiniHack's `boxohack.py`."""
    if path.stat().st_size > _LARGEST:
        raise BenchmarkDataError(f"{path} has more than {_LARGEST} bytes; it is no file of Boxoban maps")
    try:
        text = path.read_text(encoding="ascii")
    except UnicodeDecodeError as error:
        raise BenchmarkDataError(f"{path} is no file of Boxoban maps: {error}") from error
    texts: list[list[str]] = [[]]
    for line in text.splitlines():
        if line:
            texts[-1].append(line)
        else:
            texts.append([])
    return [lines for lines in texts[:-1] if lines]


def _puzzle(path: Path, index: int) -> Puzzle:
    heading, *rows = _texts(path)[index]
    if not heading.startswith(";"):
        raise BenchmarkDataError(f"{path}, map {index + 1}: it does not begin with a line '; number'")
    try:
        return puzzle(tuple(rows))
    except PuzzleError as error:
        raise BenchmarkDataError(f"{path}, map {index + 1}: {error}") from error
