"""What the page of a flow run shows during training: its progress, and the learning curve so far.

A thread of its own reads what training writes to its run directory and tells the Prefect server. Neither a slow server
nor one that is away can hold up training.
"""

from __future__ import annotations

import contextvars
import json
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

from pipelines.core import rundir
from pipelines.core.project import workspace
from pipelines.orchestration import artifacts
from pipelines.stages import plots, train
from pipelines.tracking.forwarder import Row, read_metrics, reason, unsent
from vldac.config import Config
from vldac.episodes import recent_success


class LiveProgress:
    """A context in which training runs; shows nothing if training has nothing to do.

    Args:
        root: the project.
        config: of the run.
        say: takes one line when the server cannot be told; the next attempt is made all the same.
        interval: seconds between two looks at the metrics.
        redraw: seconds between two drawings of the curve.
    """

    def __init__(
        self, root: Path, config: Config, say: Callable[[str], None], *, interval: float = 5.0, redraw: float = 60.0
    ) -> None:
        self._root, self._config, self._say = root, config, say
        self._interval, self._redraw = interval, redraw
        self._stop = threading.Event()
        self._fingerprint: str | None = None
        self._training = False
        self._progress: UUID | None = None
        self._curve: UUID | None = None
        self._shown = self._drawn = -1  # environment steps of what was last shown
        self._draw_at = 0.0
        self._silent = self._interrupted = False
        # The flow run is found through context variables, which a new thread does not have.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._run), name="live-progress", daemon=True)

    def __enter__(self) -> LiveProgress:
        """Starts watching."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Stops watching; shows the last state unless training was interrupted."""
        self._interrupted = kind is not None
        self._stop.set()
        if kind is None:
            self._thread.join(timeout=2 * self._interval)

    def _run(self) -> None:
        while True:
            stopping = self._stop.wait(self._interval)
            if self._interrupted:
                return
            try:
                self._look(last=stopping)
                self._silent = False
            except Exception as error:  # noqa: BLE001  # no failure of a server, of whatever kind, may reach training
                if not self._silent and not self._interrupted:  # what an end by Ctrl-C cuts off is no news
                    self._say(f"progress is not shown for now: {reason(error)}; training continues")
                self._silent = True
            if stopping:
                return

    def _look(self, *, last: bool) -> None:
        """Shows what is new."""
        self._fingerprint = self._fingerprint or train.fingerprint(self._root, self._config)
        run = rundir.find(workspace(self._root) / "runs", self._fingerprint)
        if run is None:
            return
        self._training |= not run.complete
        if not self._training:  # all of it was done by an earlier flow run
            return
        rows = unsent(-1, read_metrics(run.metrics))
        if not rows:
            return
        steps = int(rows[-1]["environment_steps"])
        total = self._config.updates * self._config.steps_per_update
        if steps != self._shown:
            self._progress = artifacts.progress(self._progress, 100 * steps / total, describe(rows[-1], total))
            self._shown = steps
        if steps != self._drawn and (last or time.monotonic() >= self._draw_at):
            self._drawn, self._draw_at = steps, time.monotonic() + self._redraw
            self._curve = artifacts.curve_so_far(self._curve, self._draw(run, rows), describe(rows[-1], total))

    def _draw(self, run: rundir.RunDirectory, rows: Sequence[Row]) -> bytes:
        """The learning curve as PNG, by the code that draws it at the end of the run."""
        episodes = complete_lines(run.path / "episodes.jsonl")
        with tempfile.TemporaryDirectory() as directory:
            table, picture = Path(directory, "curve.csv"), Path(directory, "curve.png")
            train.write_curve(table, rows, episodes)
            plots.learning_curve(plots.read_curve(table), None, picture)
            return picture.read_bytes()


def describe(row: Row, total: int) -> str:
    """One line about an update: progress, success as the terminal shows it, speed and time left.

    Args:
        row: of metrics.jsonl.
        total: environment steps of the whole run.
    """
    steps = int(row["environment_steps"])
    parts = [f"{steps:,} of {total:,} environment steps"]
    if row.get(train.RECENT[0]) is not None:
        parts.append(f"success {recent_success(row)}")
    speed = float(row.get("speed/environment_steps_per_s", 0.0))
    if speed > 0 and steps < total:
        parts.append(f"{speed:.0f} steps/s")
        minutes, seconds = divmod(round((total - steps) / speed), 60)
        parts.append(f"about {minutes} min {seconds:02d} s left")
    return ", ".join(parts)


def complete_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file that is being written; a last line without its end is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]
