"""Run directories, checkouts and kept base models that nothing needs any more."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.core.garbage import InUseError, Item, age_of, discard, size_of
from pipelines.core.project import home, read_lock
from pipelines.core.rundir import WEIGHTS
from pipelines.stages import base, worktrees

_DAY = 24 * 3600.0


@dataclass(frozen=True)
class Needed:
    """What of a project is a part of a registered version's lineage, or has not arrived in MLflow yet.

    Attributes:
        hashes: DVC's, of weights, bases and manifests of registered versions.
        run_keys: of the runs that trained a registered version; their metrics are kept.
        untouched: of those, the runs of which everything is kept, checkpoints too.
        delivered: keys of runs whose metrics MLflow has to the end.
        untouched_hashes: DVC's, of the weights of those versions; a checkout that holds them is kept.
    """

    hashes: frozenset[str] = frozenset()
    run_keys: frozenset[str] = frozenset()
    untouched: frozenset[str] = frozenset()
    untouched_hashes: frozenset[str] = frozenset()
    delivered: frozenset[str] = frozenset()


def run_directories(root: Path, needed: Needed) -> Iterator[Item]:
    """The directories of runs/, or the weights in them.

    A finished run is needed for its metrics alone, until MLflow has them; its weights are of no use, since the same
    run begins from nothing. One that was not finished could be resumed, for as long as a person wants that. Of a
    training by hand, `vldac train`, only the checkpoints go: nothing else has its metrics.
    """
    runs = root / "runs"
    latest = {_read(at / "runs/train.json").get("run_key") for at in (root, *checkout_directories(root))}
    for path in _directories(runs):
        if not any((path / name).exists() for name in ("run.json", "run-config.json")):
            continue  # a folder of somebody else's
        key = _read(path / "run.json").get("run_key")
        if key is not None and key in needed.untouched:
            continue
        locks = (path / ".lock", runs / f".{path.name}.lock")
        written = age_of(path, *path.glob("*.json*"), path / "checkpoints")
        weights: tuple[str, ...] = ()
        why = "are of a finished run, which nothing resumes"
        if not (path / "run.json").exists():
            weights, why = ("checkpoints",), "resume a training by hand, if it is not finished"
        elif not (path / "complete.json").exists():
            reason = "is not known to be finished, and could be resumed"
            yield Item("run", path.name, size_of(path), written, reason, partial(discard, path), locks)
        elif key not in (latest | needed.run_keys) and key in needed.delivered:
            reason = "is finished, and MLflow has its metrics"
            yield Item("run", path.name, size_of(path), written, reason, partial(discard, path), locks)
        else:
            weights = WEIGHTS
        for kept in (path / name for name in weights):
            if kept.exists():
                name = f"{path.name}/{kept.name}"
                yield Item("run", name, size_of(kept), written, why, partial(discard, kept), locks)


def checkouts(root: Path, needed: Needed) -> Iterator[Item]:
    """The checkouts of runs with parameters of their own, each of which the same parameters bring back."""
    for path in checkout_directories(root):
        if needed.untouched_hashes & _weights(path):
            continue
        used = age_of(path / "params.yaml", path / "dvc.lock", path / "runs/train.json")
        reason = "holds what the DVC cache and MLflow hold; the same parameters make it again"
        yield Item("checkout", path.name, size_of(path), used, reason, partial(_remove_checkout, root, path), (path,))


def bases(root: Path) -> Iterator[Item]:
    """The base models of mixtures, each of which the same parameters build again."""
    for path in _directories(base.directory(root)):
        reason = "is kept to be built once; the same parameters build it again, in most of an hour"
        locks = (path.with_suffix(base.LOCK),)
        yield Item("base", path.name, size_of(path), age_of(path), reason, partial(discard, path), locks)


def leftovers(root: Path) -> Iterator[Item]:
    """Copies that an upload was made from, of a process that was killed: none works for a day."""
    for path in _directories(home(root)):
        if path.name.startswith(("push.", "upload.")) and age_of(path) > _DAY:
            reason = "is a copy that was to be uploaded, left by a process that was killed"
            yield Item("leftover", path.name, size_of(path), age_of(path), reason, partial(discard, path))


def checkout_directories(root: Path) -> list[Path]:
    """Every checkout of a project."""
    return _directories(worktrees.directory(root))


def _remove_checkout(root: Path, path: Path) -> None:
    with (worktrees.directory(root) / worktrees.LOCK).open("w") as turn:
        try:  # never wait: whoever has the turn may wait for this very checkout, which is locked here
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"a run is preparing a checkout; {path.name} is kept") from None
        discard(path)
        command = ["git", "-c", f"safe.directory={root}", "worktree", "prune"]
        subprocess.run(command, cwd=root, check=True, capture_output=True)


def _weights(checkout: Path) -> set[str]:
    """DVC's hashes of everything that the stages of a checkout have made."""
    if not (checkout / "dvc.lock").exists():
        return set()
    outs = (out for stage in read_lock(checkout).stages.values() for out in stage.get("outs", ()))
    return {out["md5"] for out in outs if "md5" in out}


def _directories(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or damaged, of which nothing can be learnt."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
