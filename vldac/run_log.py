"""The directory of a run: whose it is, and what is written there as the run goes, before anything else sees it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from vldac.config import Config, ConfigError
from vldac.distributed import Runtime
from vldac.utils.errors import UserError
from vldac.utils.files import write_json


class RunLog:
    """One JSON object a line, each with the "update" it belongs to. Rank 0 writes.

    Args:
        path: of the file.
        runtime: this rank.

    Attributes:
        followers: get each row too, once it is written.
    """

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self.path, self.runtime, self.started = path, runtime, time.time()
        self.followers: list[Callable[[Mapping[str, Any]], None]] = []

    def truncate(self, update: int) -> None:
        """Drops the lines after `update`: they are about to be made again."""
        if not self.runtime.is_main:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:  # the line that was being written when the run was killed
                    break
                if not isinstance(row, dict) or row["update"] > update:
                    break
                kept.append(line)
                self.started = time.time() - row["time_s"]
        aside = self.path.with_suffix(".writing")
        aside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        aside.replace(self.path)

    def whole_updates(self) -> int:
        """How many updates from the first on have a line that can be read."""
        if not self.path.exists():
            return 0
        updates = 0
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not isinstance(row, dict) or row.get("update") != updates + 1:
                break
            updates += 1
        return updates

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds lines, with "time_s": seconds of the run so far, interruptions left out."""
        if self.runtime.is_main:
            elapsed = time.time() - self.started
            timed = [{**row, "time_s": elapsed} for row in rows]
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in timed)
            for row in timed:
                for follow in self.followers:
                    follow(row)

    def sync(self) -> None:
        """Has what is written on the disk: a checkpoint is of no use without the lines before it."""
        if self.runtime.is_main and self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """Every row, after `truncate` has left whole ones only; none on other ranks than the first."""
        if not self.runtime.is_main:
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


class RunBusyError(UserError):
    """Another process works in the directory of a run; the message is one line."""


def claim(run_dir: Path, config: Config, base: Mapping[str, Any], runtime: Runtime) -> IO[str] | None:
    """Makes `run_dir` this run's, or finds that it is: another run's checkpoint must never be continued by mistake.

    Args:
        run_dir: of the run.
        config: of the run.
        base: what `vldac.policy.identity` says of the base model.
        runtime: this rank.

    Returns:
        On the first rank, a lock on the directory, which lasts until it is closed or the process ends.

    Raises:
        RunBusyError: another process has the lock.
        ConfigError: the directory holds another run.
    """
    lock = _lock(run_dir) if runtime.is_main else None
    path, mine = run_dir / "run-config.json", {"base": dict(base), **config.deciding()}
    runtime.barrier()
    if path.exists():
        other = _read(path)
        if changed := differences(other, mine):
            raise ConfigError(
                f"{run_dir} holds a run that differs in {', '.join(changed)}; choose another --run-dir, or delete it"
            )
    runtime.barrier()
    if runtime.is_main:
        write_json(path, mine)
    return lock


def _lock(run_dir: Path) -> IO[str]:
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = (run_dir / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RunBusyError(
            f"another process trains in {run_dir}; wait for it or stop it, or choose another --run-dir"
        ) from None
    return lock


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); choose another --run-dir, or delete this one") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a JSON object; choose another --run-dir, or delete this one")
    return value


def differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys, section by section, at which two configurations differ."""
    found = []
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if isinstance(x, dict) and isinstance(y, dict):
            found += differences(x, y, f"{prefix}{key}.")
        elif x != y:
            found.append(prefix + key)
    return found
