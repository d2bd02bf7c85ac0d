"""Checkpoints that are whole or absent: written aside, verified by digest, the last few kept."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from vldac.distributed import Runtime
from vldac.utils.errors import UserError
from vldac.utils.files import file_hash

_MANIFEST = "manifest.json"
_PREFIX = "update-"
_NAME = re.compile(rf"{_PREFIX}\d{{6,}}")
log = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint could not be written, or is not what was written."""


def save(root: Path, update: int, write: Callable[[Path], None], *, keep: int, runtime: Runtime) -> Path:
    """Writes one checkpoint; every rank must call it.

    All ranks write into a directory aside, rank 0 adds a manifest with the digest of every file, and only then does
    one rename give it its name. Whatever goes wrong before that leaves the checkpoints before it untouched.

    Args:
        root: directory of all checkpoints of the run.
        update: updates made so far; names the checkpoint.
        write: writes this rank's files into the directory it is given.
        keep: how many checkpoints are kept, this one included.
        runtime: this rank.

    Raises:
        CheckpointError: the disk is full, the directory is not writable, or a file could not be written.
    """
    final = root / f"{_PREFIX}{update:06d}"
    aside = root / f".writing-{final.name}"
    try:
        if runtime.is_main:
            root.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
        runtime.barrier()
        write(aside)
        runtime.barrier()
        if runtime.is_main:
            _seal(aside, update)
            shutil.rmtree(final, ignore_errors=True)
            aside.rename(final)
            _sync(root)
            # Later ones are broken or lack their metrics: the run is about to make them again.
            later = [path for path in _all(root) if update_of(path) > update]
            for old in [*later, *[path for path in _all(root) if path not in later][:-keep]]:
                shutil.rmtree(old)
        runtime.barrier()
    except (torch.OutOfMemoryError, dist.DistError):  # of a device, or of another rank, and of no disk
        raise
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
        if runtime.is_main:  # the others may still write
            shutil.rmtree(aside, ignore_errors=True)
        free = shutil.disk_usage(_existing(root)).free / 2**20
        raise CheckpointError(
            f"could not write the checkpoint {final}: {str(error).splitlines()[0]} ({free:.0f} MiB free); checkpoints "
            "before it are whole: free some space or mend the directory's permissions, then run the same command again"
        ) from error
    return final


def newest(root: Path, at_most: int | None = None) -> Path | None:
    """The newest whole checkpoint, or None; broken ones are named in the log and passed over.

    Args:
        root: directory of all checkpoints of the run.
        at_most: passes over checkpoints of more updates than this.
    """
    for path in reversed(_all(root)):
        if at_most is not None and update_of(path) > at_most:
            log.warning("checkpoint %s is of more updates than there are metrics; trying the one before it", path)
            continue
        try:
            verify(path)
        except CheckpointError as error:
            log.warning("%s; trying the checkpoint before it", error)
        else:
            return path
    return None


def verify(path: Path) -> None:
    """Compares every file of a checkpoint with its manifest.

    Raises:
        CheckpointError: something is missing, added or changed, or it is of another update than its name says.
    """
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        digests = {str(file.relative_to(path)): file_hash(file) for file in _files(path)}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is broken: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict) or not manifest["files"]:
        raise CheckpointError(f"checkpoint {path} is broken: {_MANIFEST} names no files")
    if manifest.get("update") != update_of(path):
        raise CheckpointError(f"checkpoint {path} is broken: it is of update {manifest.get('update')}")
    names = digests.keys() | manifest["files"].keys()
    if wrong := sorted(name for name in names if manifest["files"].get(name) != digests.get(name)):
        raise CheckpointError(f"checkpoint {path} is broken: {', '.join(wrong[:5])} changed since it was written")


def update_of(path: Path) -> int:
    """How many updates a checkpoint holds."""
    return int(path.name.removeprefix(_PREFIX))


def _all(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if _NAME.fullmatch(path.name)), key=update_of)


def _files(path: Path) -> Iterator[Path]:
    return (p for p in sorted(path.rglob("*")) if p.is_file() and p.name != _MANIFEST)


def _seal(path: Path, update: int) -> None:
    digests = {str(file.relative_to(path)): file_hash(file) for file in _files(path)}
    for file in _files(path):
        _sync(file)
    (path / _MANIFEST).write_text(json.dumps({"update": update, "files": digests}, indent=1), encoding="utf-8")
    _sync(path / _MANIFEST)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
