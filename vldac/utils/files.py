"""Files that are whole or absent, and hashes of what they hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: What tools leave in directories and nobody reads as content.
_IGNORED = frozenset({"__pycache__", ".gitignore", ".DS_Store"})
#: Suffixes of the files of a model that are loaded: configurations, weights, tokenizers, templates.
_LOADED = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja"})


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the whole old or the whole new file; makes its directory if that is missing.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def honor_umask(directory: Path) -> None:
    """Gives the files of a directory the permissions of any new file: safetensors writes for the owner alone."""
    probe = directory / f".mode.{os.getpid()}"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for file in directory.iterdir():
        if file.is_file() and not file.is_symlink():
            file.chmod(mode)


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes: about a second for each gigabyte.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(*paths: Path) -> str:
    """SHA-256 (hex) over the relative names and bytes of files and of everything inside directories.

    Compiled Python and what tools leave behind do not count.

    Raises:
        FileNotFoundError: a path is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing")
        for file in _files(path):
            digest.update(f"{file.relative_to(path.parent).as_posix()}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def model_files(directory: Path) -> list[Path]:
    """The files of a model's directory that are loaded, by name. What a download leaves beside them does not count."""
    return sorted(path for path in directory.iterdir() if path.suffix in _LOADED)


def model_digest(directory: Path) -> str:
    """16 hex digits that tell model directories apart: `content_hash` of the files that are loaded."""
    return content_hash(*model_files(directory))[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.suffix != ".pyc" and not _IGNORED.intersection(file.relative_to(path).parts):
            yield file
