"""Removal that is whole or absent, and what keeps it away from a process that works."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from pipelines.core import garbage
from pipelines.core.errors import PipelineError


def test_a_removal_that_is_killed_leaves_nothing_half_and_is_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thing = tmp_path / "thing"
    thing.mkdir()
    (thing / "file").write_text("x")

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            garbage.discard(thing)
    assert not thing.exists()
    (left,) = tmp_path.iterdir()
    assert (left / "file").exists()
    garbage.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    garbage.discard(thing)  # what is gone already


def test_a_file_with_two_links_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100_000))
    alone = garbage.size_of(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    assert garbage.size_of(tmp_path) == alone >= 100_000


def test_what_a_process_has_locked_cannot_be_claimed(tmp_path: Path) -> None:
    missing, lock = tmp_path / "missing", tmp_path / "lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert garbage.in_use(missing, lock)
        with pytest.raises(garbage.InUseError, match="is in use"), garbage.claimed(lock):
            pass
    assert not garbage.in_use(missing, lock)


def test_sizes_and_ages_are_read_as_they_are_written() -> None:
    assert [garbage.parse_size(text) for text in ("20GB", "1.5 tb", "7")] == [20 * 10**9, 15 * 10**11, 7]
    assert [garbage.parse_age(text).total_seconds() for text in ("12h", "30d", "2w")] == [43_200, 2_592_000, 1_209_600]
    assert [garbage.show_size(size) for size in (7, 1_500, 20 * 10**9)] == ["7 B", "1.5 kB", "20.0 GB"]
    for read, text in ((garbage.parse_size, "20 parsecs"), (garbage.parse_age, "30"), (garbage.parse_age, "-1d")):
        with pytest.raises(PipelineError, match="; write"):
            read(text)
