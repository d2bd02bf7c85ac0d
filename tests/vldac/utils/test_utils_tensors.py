"""Tensors go to disk and back, and a disk that takes none says so as the system does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vldac.utils.tensors import write_tensors


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b/c": torch.tensor([1, 2])}
    write_tensors(tensors, tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)


def test_a_file_that_cannot_be_written_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing/x\.safetensors could not be written"):
        write_tensors({"a": torch.zeros(1)}, tmp_path / "missing" / "x.safetensors")
