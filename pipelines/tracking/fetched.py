"""The files of a registered version, on disk as long as they are needed: they may be gigabytes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.project import home
from pipelines.tracking import lineage

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_PREFIX = "fetched."


@contextmanager
def fetched(root: Path, version: ModelVersion) -> Iterator[Path]:
    """A version's policy/, base/ and params.yaml, verified. What killed processes have left behind is removed."""
    home(root).mkdir(parents=True, exist_ok=True)
    with _claimed(home(root)) as directory:
        lineage.fetch(root, version, directory / "model")
        yield directory / "model"


@contextmanager
def _claimed(parent: Path) -> Iterator[Path]:
    """A new directory, removed at the end, and locked: the kernel lets go of the lock however this process ends."""
    with (parent / f".{_PREFIX}lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # nobody takes a directory for abandoned before its owner has locked it
        for left in parent.glob(f"{_PREFIX}*"):
            _remove_if_abandoned(left)
        directory = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX))
        lock = os.open(directory, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _remove_if_abandoned(directory: Path) -> None:
    try:
        lock = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:  # its owner has just finished
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:
        pass  # it is in use
    finally:
        os.close(lock)
