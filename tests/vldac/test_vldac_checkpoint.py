from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from vldac import checkpoint
from vldac.checkpoint import CheckpointError, newest, save, verify
from vldac.distributed import Runtime

ONE = Runtime(0, 1, torch.device("cpu"))


def write(directory: Path) -> None:
    (directory / "engine").mkdir()
    (directory / "engine" / "weights.pt").write_bytes(bytes(range(256)) * 8)
    (directory / "rank-0.json").write_text("{}")


def saved(root: Path, *updates: int, keep: int = 2) -> list[Path]:
    return [save(root, update, write, keep=keep, runtime=ONE) for update in updates]


def names(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir())


def test_a_checkpoint_holds_what_was_written_and_verifies(tmp_path: Path) -> None:
    (path,) = saved(tmp_path / "a" / "b", 7)
    assert checkpoint.update_of(path) == 7
    verify(path)
    assert newest(path.parent) == path
    assert (path / "engine" / "weights.pt").read_bytes() == bytes(range(256)) * 8


def test_no_checkpoint_is_found_where_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") is None
    assert newest(tmp_path) is None


def test_the_last_k_are_kept_and_the_newest_is_taken(tmp_path: Path) -> None:
    paths = saved(tmp_path, 5, 10, 999_999, 1_000_000, keep=2)
    assert names(tmp_path) == sorted(p.name for p in paths[-2:])
    assert newest(tmp_path) == paths[-1]


def test_a_half_written_checkpoint_is_ignored_and_replaced(tmp_path: Path) -> None:
    (good,) = saved(tmp_path, 1)
    left = tmp_path / ".writing-update-000002"
    left.mkdir()
    (left / "rank-0.json").write_text("{")
    (left / "rubbish").write_text("from the run that was killed")
    assert newest(tmp_path) == good
    (again,) = saved(tmp_path, 2)
    assert newest(tmp_path) == again
    assert not (again / "rubbish").exists()
    assert names(tmp_path) == [good.name, again.name]


def flip_a_byte(path: Path) -> None:
    file = path / "engine" / "weights.pt"
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)


def cut_the_manifest(path: Path) -> None:
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])


def rewrite(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        cut_the_manifest,
        lambda path: (path / "rank-0.json").unlink(),
        lambda path: (path / "manifest.json").unlink(),
        lambda path: (path / "engine" / "weights.pt").write_bytes(b""),
        lambda path: (path / "manifest.json").write_text("{}"),
        lambda path: (path / "manifest.json").write_text('{"update": 2, "files": {}}'),
        lambda path: (path / "manifest.json").write_text("[]"),
        lambda path: (path / "engine" / "more.pt").write_bytes(b"1"),
        lambda path: rewrite(path, update=1),
    ],
    ids=[
        *("flipped byte", "cut manifest", "missing file", "missing manifest", "emptied file"),
        *("empty manifest", "no files", "no mapping", "extra file", "another update"),
    ],
)
def test_a_broken_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]
) -> None:
    good, broken = saved(tmp_path, 1, 2)
    damage(broken)
    with pytest.raises(CheckpointError, match="is broken"):
        verify(broken)
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path) == good
    assert str(broken) in caplog.text
    assert "the checkpoint before it" in caplog.text


@pytest.mark.parametrize("keep", [1, 2])
def test_broken_checkpoints_of_later_updates_do_not_push_out_the_new_one(tmp_path: Path, keep: int) -> None:
    for path in saved(tmp_path, 5, 10, keep=2):
        flip_a_byte(path)
    (new,) = saved(tmp_path, 1, keep=keep)
    assert newest(tmp_path) == new
    assert names(tmp_path) == [new.name]


def test_only_exact_names_are_checkpoints(tmp_path: Path) -> None:
    (good,) = saved(tmp_path, 3)
    for name in ("update-000009.bak", "update-9", "old-update-000009", "update-00000x"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path) == good


def test_checkpoints_beyond_what_is_asked_for_are_passed_over(tmp_path: Path) -> None:
    one, two = saved(tmp_path, 1, 2)
    assert newest(tmp_path, at_most=2) == two
    assert newest(tmp_path, at_most=1) == one
    assert newest(tmp_path, at_most=0) is None


def test_nothing_is_taken_where_every_checkpoint_is_broken(tmp_path: Path) -> None:
    for path in saved(tmp_path, 1, 2):
        flip_a_byte(path)
    assert newest(tmp_path) is None


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("[enforce fail] PytorchStreamWriter failed\nmore")]
)
def test_a_write_that_fails_leaves_the_checkpoints_before_it_whole(tmp_path: Path, error: Exception) -> None:
    good = saved(tmp_path, 1, 2)

    def full(directory: Path) -> None:
        write(directory)
        raise error

    with pytest.raises(CheckpointError, match="could not write the checkpoint") as caught:
        save(tmp_path, 3, full, keep=2, runtime=ONE)
    assert len(str(caught.value).splitlines()) == 1
    assert names(tmp_path) == [p.name for p in good]
    for path in good:
        verify(path)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), dist.DistError("NCCL")])
def test_what_is_no_fault_of_the_disk_is_not_told_as_one(tmp_path: Path, error: Exception) -> None:
    def failing(_directory: Path) -> None:
        raise error

    with pytest.raises(type(error)):
        save(tmp_path, 1, failing, keep=2, runtime=ONE)


def test_a_rank_that_cannot_write_leaves_what_the_others_have_written(tmp_path: Path) -> None:
    second = Runtime(1, 1, torch.device("cpu"))  # of a world of its own, in which nobody waits
    aside = tmp_path / ".writing-update-000001"
    aside.mkdir()
    (aside / "of_rank_0").touch()

    def full(_directory: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError):
        save(tmp_path, 1, full, keep=2, runtime=second)
    assert (aside / "of_rank_0").exists()


def test_an_interrupted_write_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    saved(tmp_path, 1)

    def killed(directory: Path) -> None:
        write(directory)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, killed, keep=2, runtime=ONE)
    assert newest(tmp_path) == tmp_path / "update-000001"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"could not write the checkpoint .*file/checkpoints") as caught:
        saved(tmp_path / "file" / "checkpoints", 1)
    assert len(str(caught.value).splitlines()) == 1
