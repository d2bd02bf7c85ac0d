"""Trackers that follow a run's metrics beside MLflow, each by a switch of section `tracking`.

MLflow reads metrics.jsonl from outside of training. A tracker here gets each row as it is written, and first those
that the run has written before, so that a resumed run is whole there too.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

from vldac.config import Config
from vldac.run_log import RunLog
from vldac.utils.errors import UserError

_T = TypeVar("_T")
TENSORBOARD = "tensorboard"
_WANDB_ID = "wandb-id"
_STEP = "environment_steps"


class Tracker(Protocol):
    """Takes the rows of a run's metrics.jsonl, in order."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Adds one row, at its `environment_steps`."""

    def close(self) -> None:
        """Writes out what is left."""


class TensorBoard:
    """Event files in RUN/tensorboard, written anew from metrics.jsonl whenever a run begins or resumes.

    Args:
        run_dir: of the run.
        config: of the run.
        rows: that it has written so far.
    """

    def __init__(self, run_dir: Path, config: Config, rows: Sequence[Mapping[str, Any]]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an extra, slow to import

        shutil.rmtree(run_dir / TENSORBOARD, ignore_errors=True)
        self._writer: Any = SummaryWriter(str(run_dir / TENSORBOARD))
        self._writer.add_text("config", f"```json\n{json.dumps(config.model_dump(mode='json'), indent=1)}\n```")
        for row in rows:
            self.log(row)

    def log(self, row: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        for name, value in _numbers(row).items():
            self._writer.add_scalar(name, value, int(row[_STEP]))

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases, which a resumed run goes on with; its own settings say where it is (WANDB_MODE, ...).

    Args:
        run_dir: of the run; holds the id that it has there.
        config: of the run.
        rows: that it has written so far.
    """

    def __init__(self, run_dir: Path, config: Config, rows: Sequence[Mapping[str, Any]]) -> None:
        import wandb  # noqa: PLC0415  # an extra

        named = run_dir / _WANDB_ID
        if not named.exists():
            named.write_text(secrets.token_hex(8), encoding="utf-8")
        self._run: Any = wandb.init(
            project="vldac",
            id=named.read_text(encoding="utf-8"),
            resume="allow",
            name=f"{config.env.id} seed {config.seed}",
            dir=str(run_dir),
            config=config.model_dump(mode="json"),
        )
        self._next = int(self._run.step)  # the first step that the run does not have yet
        for row in rows:
            self.log(row)

    def log(self, row: Mapping[str, Any]) -> None:
        """See `Tracker`; rows that are there already are passed over."""
        step = int(row[_STEP])
        if step >= self._next:
            self._run.log(_numbers(row), step=step)
            self._next = step + 1

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


_TRACKERS: dict[str, type[TensorBoard] | type[WandB]] = {"tensorboard": TensorBoard, "wandb": WandB}


def require(config: Config) -> None:
    """Checks that the packages of the trackers that are switched on are installed.

    Raises:
        UserError: one is not; the message names the cure.
    """
    for name in _switched_on(config):
        if find_spec(name) is None:
            raise UserError(
                f"tracking.{name} needs the package {name}; install it with: pip install {name}, or switch it off"
            )


@contextmanager
def following(metrics: RunLog, config: Config) -> Iterator[None]:
    """Within it, the trackers that are switched on get every row of a run's metrics; the first rank has them.

    A tracker that cannot begin, or fails, is left out, in one line: none stops training.

    Args:
        metrics: of the run, cut back to where it resumes.
        config: of the run.
    """
    with ExitStack() as stack:
        if metrics.runtime.is_main:
            rows = metrics.rows()
            for name in _switched_on(config):
                guarded = _Guarded(name, partial(_TRACKERS[name], metrics.path.parent, config, rows))
                stack.callback(guarded.close)
                metrics.followers.append(guarded.log)
        yield


class _Guarded:
    """A tracker that stops neither a training nor its end: after its first failure it is left out, in one line."""

    def __init__(self, name: str, start: Callable[[], Tracker]) -> None:
        self._name = name
        self._tracker: Tracker | None = None
        self._tracker = self._tried(start)

    def log(self, row: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        if (tracker := self._tracker) is not None:
            self._tried(lambda: tracker.log(row))

    def close(self) -> None:
        """See `Tracker`."""
        if (tracker := self._tracker) is not None:
            self._tried(tracker.close)

    def _tried(self, what: Callable[[], _T]) -> _T | None:
        try:
            return what()
        except Exception as error:  # noqa: BLE001  # of a server, a login or a disk, whatever it is
            line = " ".join(str(error).split())[:200] or type(error).__name__
            print(f"warning: without {self._name}: {line}", file=sys.stderr, flush=True)
            self._tracker = None
            return None


def _switched_on(config: Config) -> list[str]:
    return [name for name, on in config.tracking.model_dump().items() if on]


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn: numbers that are finite."""
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and math.isfinite(value) and name != _STEP
    }
