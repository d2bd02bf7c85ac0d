"""Carries metrics from a file to a server, whether or not the server is there.

Training writes its metrics to a file and knows nothing of servers. A `MetricsForwarder` in the stage's process tails
that file and sends what the server does not have yet. What the server has is asked of the server itself, each time it
comes (back) within reach; nothing is doubled after a lost reply, and nothing is lost that the file still holds.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipelines.core.errors import explain

#: The last value of every batch; its highest step says how far the server has come.
STEPS = "environment_steps"

Row = Mapping[str, Any]


class MetricsServer(Protocol):
    """Where metrics go. Every method may raise anything while the server is away."""

    run_id: str

    def last_step(self) -> int:
        """The highest `environment_steps` that it has, -1 for none."""

    def send(self, rows: Sequence[Row]) -> None:
        """Adds rows that it does not have, in order."""

    def finish(self, status: str) -> None:
        """Ends the run with one of MLflow's statuses."""


class MetricsFile:
    """Reads the complete lines of a metrics.jsonl that grows, and that shrinks when its run goes back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._last = b""

    def rewind(self) -> None:
        """Makes the next `read` start at the first line."""
        self._offset, self._last = 0, b""

    def read(self) -> list[Row]:
        """The rows added since the last call; all of them again after the file was cut back."""
        try:
            with self._path.open("rb") as file:
                # Cut back and grown past the old offset in between: then the last line read is no longer there.
                file.seek(self._offset - len(self._last))
                if file.read(len(self._last)) != self._last:
                    self.rewind()
                file.seek(self._offset)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            self.rewind()
            return []
        rows = []
        for line in lines:
            if not line.endswith(b"\n"):  # still being written
                break
            self._offset += len(line)
            self._last = line
            row = _row(line)
            if row is not None:
                rows.append(row)
        return rows


def _row(line: bytes) -> Row | None:
    """A line of metrics, or None for one that a crash left damaged."""
    try:
        row = json.loads(line)
        int(row[STEPS])
    except (ValueError, KeyError, TypeError):
        return None
    return row


def read_metrics(path: Path) -> list[Row]:
    """Every complete row of a metrics.jsonl."""
    return MetricsFile(path).read()


class MetricsForwarder:
    """Sends a growing metrics.jsonl to a server from a background thread, whenever the server is there.

    Args:
        path: the metrics.jsonl, which may not exist yet.
        connect: reaches the server and yields the run on it; called again after every failure.
        where: the server's address for the two log lines, without credentials.
        interval: seconds between two looks at the file, and the first delay after a failure.
        max_delay: seconds; the delay doubles up to it while the server is away.
        log: takes one readable line when the server is lost, and one when it is back.
    """

    def __init__(
        self,
        path: Path,
        connect: Callable[[], MetricsServer],
        *,
        where: str,
        interval: float = 5.0,
        max_delay: float = 60.0,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._file = MetricsFile(path)
        self._path = path
        self._connect = connect
        self._where = where
        self._interval = interval
        self._max_delay = max_delay
        self._log = log or (lambda line: print(line, file=sys.stderr, flush=True))
        self._stop = threading.Event()
        self._status: str | None = None
        self._pending: list[Row] = []
        self._sent = -1
        self._away = False
        self._done = False
        self.server: MetricsServer | None = None
        # A daemon: a request that hangs must not keep a finished stage alive.
        self._thread = threading.Thread(target=self._run, name="metrics-forwarder", daemon=True)

    def start(self) -> None:
        """Starts the thread; returns at once."""
        self._thread.start()

    def close(self, status: str, timeout: float = 30.0) -> bool:
        """Sends what is left, ends the run with `status`, and stops.

        Returns:
            Whether the server has everything. Where it does not, `tracking.send_all` later sends the rest.
        """
        self._status = status
        self._stop.set()
        self._thread.join(timeout)
        return self._done

    def _run(self) -> None:
        delay = self._interval
        while True:
            stopping = self._stop.is_set()
            try:
                self._forward()
                if stopping:
                    assert self.server is not None
                    self.server.finish(self._status or "FINISHED")
                    self._done = True
            except Exception as error:  # noqa: BLE001  # no failure of a server, of whatever kind, may reach training
                self._lost(error)
                delay = min(2 * delay, self._max_delay)
            else:
                delay = self._interval
            if stopping:
                return
            self._stop.wait(delay)

    def _forward(self) -> None:
        self._pending += self._file.read()
        if self.server is None:
            server = self._connect()
            self._sent = server.last_step()
            self.server = server
        rows = unsent(self._sent, self._pending)
        if rows:
            self.server.send(rows)
            self._sent = int(rows[-1][STEPS])
        self._pending = []
        if self._away:
            self._away = False
            self._log(f"MLflow ({self._where}) is back; it has the metrics up to environment step {self._sent}")

    def _lost(self, error: Exception) -> None:
        self.server = None  # the next attempt asks the server what it has: a reply may have been lost, not the request
        if not self._away:
            self._away = True
            self._log(
                f"MLflow ({self._where}) is away: {reason(error)}. Training continues; metrics are kept in "
                f"{self._path} and sent when it is back"
            )


def unsent(step: int, rows: Sequence[Row]) -> list[Row]:
    """Rows beyond `step`, each step once: a resumed run writes the same rows again."""
    kept = []
    for row in rows:
        if int(row[STEPS]) > step:
            step = int(row[STEPS])
            kept.append(row)
    return kept


def reason(error: BaseException) -> str:
    """Why a server could not be used, in a few words and without what a URL may hold."""
    text = explain(error) if isinstance(error, Exception) else type(error).__name__
    text = re.sub(r"//\S+@", "//", text)
    if "Connection refused" in text or "Max retries exceeded" in text or "NameResolution" in text:
        return "it cannot be reached"
    return text[:200]
