"""The working directory of one training run, and what identifies the run.

`runs/<fingerprint>/` is named after everything that decides the weights, so the same command finds the same directory
again and resumes from its checkpoints. It is not an output of DVC, which deletes outputs before a stage: a run that
was killed keeps all it had. It lies in the project even where DVC runs an experiment in a directory of its own, which
it deletes: an experiment that was killed there is resumed too.

Once the stage has written its results the directory is marked complete. DVC then reads all of them before it records
them in dvc.lock: a run that is killed in between has its results written again, from its last checkpoint. One that is
recorded starts from nothing when it is run again (`dvc repro --force`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.core.errors import PipelineError
from pipelines.core.garbage import in_use
from pipelines.core.project import md5_of, read_json
from vldac.utils.files import write_json

#: Folders of a run directory that a run needs until DVC has its results.
WEIGHTS = ("checkpoints", "exports")
_TRIES = 10


@dataclass(frozen=True)
class RunIdentity:
    """What ties a run's files to its MLflow run; it exists before any server is asked.

    Attributes:
        run_key: uuid4 hex, the MLflow run's tag `vldac.run_key`.
        fingerprint: hash of everything that decides the weights.
        started_ms: Unix time in milliseconds at which the run first started.
    """

    run_key: str
    fingerprint: str
    started_ms: int


@dataclass(frozen=True)
class RunDirectory:
    """`runs/<fingerprint>/`; see the module's docstring."""

    path: Path
    identity: RunIdentity

    @property
    def metrics(self) -> Path:
        """One JSON object per update, written by `vldac.train`."""
        return self.path / "metrics.jsonl"

    @property
    def complete(self) -> bool:
        """Whether the stage has written this run's results."""
        return self._mark.exists()

    @property
    def exports(self) -> Path:
        """A policy directory for each update of `checkpoint.export_every`, written by `vldac.train`."""
        return self.path / "exports"

    def mark_complete(self, environment_steps: int, result: Path) -> None:
        """Marks the run as finished; call it after the last result is written.

        Args:
            environment_steps: of the whole run.
            result: a file that no other run writes alike, by which DVC's record of this one is known.
        """
        write_json(self._mark, {"environment_steps": environment_steps, "result_md5": md5_of(result)})

    def reopen(self) -> None:
        """Makes a complete run an unfinished one again."""
        self._mark.unlink()

    def delivered_as(self, recorded: str | None) -> bool:
        """Whether a complete run's results are the ones that DVC has recorded, or can be had in no other way.

        Args:
            recorded: md5 that dvc.lock has of the `result` of `mark_complete`; None where it has none.
        """
        result = read_json(self._mark).get("result_md5", recorded)  # of an earlier version: none
        return result == recorded or not (self.path / "checkpoints").exists()

    @property
    def _mark(self) -> Path:
        return self.path / "complete.json"


def find(runs: Path, fingerprint: str) -> RunDirectory | None:
    """The directory of a run that has started, complete or not."""
    path = runs / fingerprint
    if not (path / "run.json").exists():
        return None
    return RunDirectory(path, RunIdentity(**read_json(path / "run.json")))


def stopped(runs: Path, run_keys: Collection[str]) -> list[RunIdentity]:
    """Those of some runs that have begun in this folder, have not finished, and that no process works in."""
    found = []
    for run in (find(runs, path.name) for path in runs.glob("*")):
        if run is None or run.complete or run.identity.run_key not in run_keys:
            continue
        if not in_use(_lock(runs, run.path.name)):
            found.append(run.identity)
    return found


@contextmanager
def open_run(runs: Path, fingerprint: str, recorded: Callable[[], str | None] = lambda: None) -> Iterator[RunDirectory]:
    """Opens the directory to train in: that of this fingerprint's run which DVC has not recorded yet, or a new one.

    It stays locked until the context ends *and* every child that inherited `lock_descriptor` has ended, so that a
    training process that lost its parent cannot meet a second one over the same checkpoints.

    Args:
        runs: the folder of all runs.
        fingerprint: of everything that decides the weights.
        recorded: see `RunDirectory.delivered_as`; asked for a run that is complete.

    Raises:
        PipelineError: another process is training in it.
        OSError: it cannot be written.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with _lock(runs, fingerprint).open("w") as lock:
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if left:  # `in_use` holds it for an instant
                    time.sleep(0.1)
                    continue
                raise PipelineError(
                    f"another process is training in {runs / fingerprint}; wait for it or stop it (`fuser {lock.name}`)"
                ) from None
        os.set_inheritable(lock.fileno(), True)
        run = find(runs, fingerprint)
        if run is not None and run.complete:
            if run.delivered_as(recorded()):
                _archive(run)
                run = None
            else:
                run.reopen()
        if run is None:
            identity = RunIdentity(uuid.uuid4().hex, fingerprint, int(time.time() * 1000))
            write_json(runs / fingerprint / "run.json", asdict(identity))
            run = RunDirectory(runs / fingerprint, identity)
        yield run


def _lock(runs: Path, fingerprint: str) -> Path:
    return runs / f".{fingerprint}.lock"


def _archive(run: RunDirectory) -> None:
    """Moves a delivered run aside: its metrics may still wait for a server, its weights are of no more use."""
    old = run.path.rename(run.path.with_name(f"{run.path.name}-{run.identity.run_key[:8]}"))
    for name in WEIGHTS:
        shutil.rmtree(old / name, ignore_errors=True)
