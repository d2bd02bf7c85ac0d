from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from vldac.utils.files import content_hash, file_hash, honor_umask, write_json


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_get_the_permissions_of_any_new_file(umask: int, mode: int, tmp_path: Path) -> None:
    (tmp_path / "weights").touch(0o600)
    (tmp_path / "folder").mkdir()
    before = os.umask(umask)
    try:
        honor_umask(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "weights"]


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
