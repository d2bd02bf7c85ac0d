"""Tensors in files: safetensors alone, which hold no code."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes safetensors.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # how it tells of a full disk
        raise OSError(f"{path} could not be written: {error}") from error
