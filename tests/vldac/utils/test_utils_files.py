from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from vldac.utils.files import content_hash, file_hash, write_json


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["state.json"]


def test_a_files_hash_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"weights").hexdigest()


def test_a_content_hash_is_of_names_and_bytes_and_of_nothing_else(tmp_path: Path) -> None:
    model, copy = tmp_path / "model", tmp_path / "elsewhere" / "model"
    for directory in (model, copy):
        (directory / "deep").mkdir(parents=True)
        (directory / "deep" / "a").write_bytes(b"1")
    first = content_hash(model)
    assert content_hash(copy) == first
    for noise in (model / "__pycache__" / "x", model / "m.pyc", model / ".gitignore"):
        noise.parent.mkdir(exist_ok=True)
        noise.write_bytes(b"?")
    assert content_hash(model) == first
    (copy / "deep" / "a").rename(copy / "deep" / "b")
    assert content_hash(copy) != first
    (model / "deep" / "a").write_bytes(b"2")
    assert content_hash(model) != first
    with pytest.raises(FileNotFoundError, match="nothing is missing"):
        content_hash(tmp_path / "nothing")
