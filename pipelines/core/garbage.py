"""What may be removed from disk, and how: whole or not at all, and never under a process that works in it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pipelines.core.errors import PipelineError

_TRASH = ".trash."
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)B?", re.IGNORECASE)
_AGE = re.compile(r"(\d+)([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7}


class InUseError(PipelineError):
    """A process works in what was to be removed."""


@dataclass(frozen=True)
class Item:
    """Something that could be removed.

    Attributes:
        kind: where it is: a run, a checkout, the DVC cache, MLflow, Prefect.
        name: of the thing.
        size: bytes on disk that its removal frees; 0 for rows of a database.
        age: seconds since it was last of use.
        reason: why nothing needs it.
        remove: removes it.
        locks: files and directories that a process which works in it has locked; see `claimed`.
    """

    kind: str
    name: str
    size: int
    age: float
    reason: str
    remove: Callable[[], None]
    locks: tuple[Path, ...] = ()


def size_of(path: Path) -> int:
    """Bytes that a file or a directory takes on disk; a file with several links counts once, one that goes not."""
    blocks: dict[tuple[int, int], int] = {}
    for file in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        try:
            stat = file.lstat()
        except FileNotFoundError:
            continue
        blocks[stat.st_dev, stat.st_ino] = 512 * stat.st_blocks
    return sum(blocks.values())


def age_of(*paths: Path) -> float:
    """Seconds since the last of these files and directories was written; those that are missing do not count."""
    written = []
    for path in paths:
        try:
            written.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return max(0.0, time.time() - max(written, default=0.0))


def discard(path: Path) -> None:
    """Removes a file or a directory by renaming it first: whatever stops this half-way, nobody finds half of it."""
    aside = path.with_name(f"{_TRASH}{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    _erase(aside)


def sweep(directory: Path) -> None:
    """Finishes what a killed `discard` in this directory has begun."""
    for aside in directory.glob(f"{_TRASH}*"):
        _erase(aside)


def _erase(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def claimed(*paths: Path) -> Iterator[None]:
    """A context in which nobody else can lock these files or directories; those that are missing do not count.

    Raises:
        InUseError: another process holds one of them.
    """
    with ExitStack() as held:
        for path in paths:
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUseError(f"{path} is in use; wait for the process that works there") from None
        yield


def in_use(*paths: Path) -> bool:
    """Whether a process holds a lock on one of these files or directories."""
    try:
        with claimed(*paths):
            return False
    except InUseError:
        return True


def parse_size(text: str) -> int:
    """Bytes of a size such as 20GB, 500MB or 1.5TB, in powers of 1000.

    Raises:
        PipelineError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise PipelineError(f"{text!r} is no size; write 20GB or 500MB")
    return round(float(match[1]) * 1000 ** ("KMGT".index(match[2].upper()) + 1 if match[2] else 0))


def parse_age(text: str) -> timedelta:
    """An age such as 12h, 30d or 8w.

    Raises:
        PipelineError: it is none.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise PipelineError(f"{text!r} is no age; write 12h, 30d or 8w")
    return timedelta(hours=int(match[1]) * _HOURS[match[2]])


def show_size(size: float) -> str:
    """A size for a person: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def show_age(seconds: float) -> str:
    """An age for a person: hours below two days, then days."""
    hours = seconds / 3600
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
