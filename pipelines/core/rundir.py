"""The working directory of one training run, and what identifies the run.

`runs/<fingerprint>/` is named after everything that decides the weights, so the same command finds the same directory
again and resumes from its checkpoints. It is not an output of DVC, which deletes outputs before a stage: a run that
was killed keeps all it had. It lies in the project even where DVC runs an experiment in a directory of its own, which
it deletes: an experiment that was killed there is resumed too. Once the stage has delivered its results the directory
is marked complete, and the next run of the same fingerprint (`dvc repro --force`) starts from nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.core.errors import PipelineError
from pipelines.core.project import read_json
from vldac.utils.files import write_json


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
        """Whether the stage has delivered this run's results."""
        return (self.path / "complete.json").exists()

    @property
    def exports(self) -> Path:
        """A policy directory for each update of `checkpoint.export_every`, written by `vldac.train`."""
        return self.path / "exports"

    def mark_complete(self, environment_steps: int) -> None:
        """Marks the run as finished; call it after the last result is written."""
        write_json(self.path / "complete.json", {"environment_steps": environment_steps})
        shutil.rmtree(self.exports, ignore_errors=True)  # DVC has them


def find(runs: Path, fingerprint: str) -> RunDirectory | None:
    """The directory of a run that has started, complete or not."""
    path = runs / fingerprint
    if not (path / "run.json").exists():
        return None
    return RunDirectory(path, RunIdentity(**read_json(path / "run.json")))


@contextmanager
def open_run(runs: Path, fingerprint: str) -> Iterator[RunDirectory]:
    """Opens the directory to train in: that of the unfinished run of this fingerprint, or a new one.

    It stays locked until the context ends *and* every child that inherited `lock_descriptor` has ended, so that a
    training process that lost its parent cannot meet a second one over the same checkpoints.

    Raises:
        PipelineError: another process is training in it.
        OSError: it cannot be written.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / f".{fingerprint}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(
                f"another process is training in {runs / fingerprint}; wait for it or stop it (`fuser {lock.name}`)"
            ) from None
        os.set_inheritable(lock.fileno(), True)
        run = find(runs, fingerprint)
        if run is not None and run.complete:
            _archive(run)
            run = None
        if run is None:
            identity = RunIdentity(uuid.uuid4().hex, fingerprint, int(time.time() * 1000))
            write_json(runs / fingerprint / "run.json", asdict(identity))
            run = RunDirectory(runs / fingerprint, identity)
        yield run


def _archive(run: RunDirectory) -> None:
    """Moves a delivered run aside: its metrics may still wait for a server, its checkpoints are of no more use."""
    old = run.path.rename(run.path.with_name(f"{run.path.name}-{run.identity.run_key[:8]}"))
    shutil.rmtree(old / "checkpoints", ignore_errors=True)
