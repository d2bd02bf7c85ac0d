"""Files that can be made again: games and their translations, shared by processes that write them at the same time."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from envs.base import SimulatorError


def cache_directory() -> Path:
    """Where ALFWorld's files are kept: `$VLDAC_CACHE/alfworld`, or `~/.cache/vldac/alfworld`."""
    return Path(os.environ.get("VLDAC_CACHE") or Path.home() / ".cache" / "vldac") / "alfworld"


def read(path: Path, limit: int) -> bytes | None:
    """The content of a file, or None where it is not there or longer than `limit` bytes.

    Raises:
        SimulatorError: it is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(error) from error
    return data if len(data) <= limit else None


def write(path: Path, data: bytes) -> None:
    """Writes a file that others see complete or not at all.

    Raises:
        SimulatorError: the directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # with the permissions of any new file
        try:
            aside.write_bytes(data)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(error) from error


def _unusable(error: OSError) -> SimulatorError:
    return SimulatorError(
        f"ALFWorld cannot keep its games: {error}; set VLDAC_CACHE to a directory that can be written"
    )
