"""A process that keeps running: with a log of its own, started again when it dies, stopped with its children."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipelines.core.errors import PipelineError
from vldac.utils import processes

#: Seconds that a service has survived after which its earlier deaths no longer count.
STABLE = 120.0
#: Deaths in a row after which it is not started again.
MAX_DEATHS = 5
#: Seconds before the first restart; doubled for each further one.
FIRST_DELAY = 1.0
_TAIL_BYTES = 16_384


class Service:
    """A process that should run for as long as this one does.

    Args:
        name: for messages, and of its log file.
        command: to run.
        cwd: where.
        env: its whole environment.
        logs: directory of its log; the log of the time before is kept as `NAME.log.1`.
        health: address that answers with a status below 400 once the service is ready; None for no such address.
        stop_seconds: from the request to stop until it is killed.
        children_first: ask the sessions that it started to end before it is asked itself, so that they can say so.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        logs: Path,
        health: str | None = None,
        stop_seconds: float = 10.0,
        children_first: bool = False,
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.command, self._cwd, self._env = list(command), cwd, dict(env)
        self._health, self._stop_seconds, self._children_first = health, stop_seconds, children_first
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0
        self._restart_at: float | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, which leads its own group; None while it does not run."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Starts it, in a session of its own: Ctrl-C in the terminal reaches this process, which stops it in order."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self._started == 0.0 and self.log.exists():
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watcher = processes.kill_group_when_parent_dies(self._process.pid)
        self._started, self._restart_at = time.monotonic(), None

    def healthy(self) -> bool:
        """Whether it runs, and answers if it has an address."""
        if self._process is None or self._process.poll() is not None:
            return False
        if self._health is None:
            return True
        try:
            with urllib.request.urlopen(self._health, timeout=2):  # noqa: S310  # an address made here
                return True
        except urllib.error.HTTPError as error:
            return error.code in {401, 403}  # it is there, and asks for its password
        except (OSError, ValueError):
            return False

    def wait_until_healthy(self, seconds: float, stop: threading.Event) -> None:
        """Waits for the first answer, or until `stop` is set.

        Raises:
            PipelineError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + seconds
        while not (stop.is_set() or self.healthy()):
            if self._process is None or self._process.poll() is not None:
                raise PipelineError(f"{self.name} ended as it started: {self.last_line()}; its log is {self.log}")
            if time.monotonic() > deadline:
                raise PipelineError(f"{self.name} does not answer after {seconds:.0f} s; its log is {self.log}")
            stop.wait(0.2)

    def look_after(self, say: Callable[[str], None]) -> None:
        """Notices its death and starts it again; to be called every second or so.

        Raises:
            PipelineError: it died `MAX_DEATHS` times without having been stable in between.
        """
        if self._restart_at is not None:
            if time.monotonic() >= self._restart_at:
                self.start()
                say(f"{self.name} is started again")
            return
        if self._process is None or (code := self._process.poll()) is None:
            return
        self._deaths = 1 if time.monotonic() - self._started > STABLE else self._deaths + 1
        self._end_group()
        died = f"{self.name} died ({_how(code)}); its log is {self.log}"
        if self._deaths >= MAX_DEATHS:
            raise PipelineError(f"{died}; it died {self._deaths} times in a row: {self.last_line()}")
        delay = FIRST_DELAY * 2 ** (self._deaths - 1)
        self._restart_at = time.monotonic() + delay
        say(f"{died}; starting it again in {delay:.0f} s")

    def stop(self) -> None:
        """Asks it to end, waits, kills what is left of it and of everything it started in its group."""
        self._restart_at = None
        if self._process is None:
            return
        if self._process.poll() is None:
            if self._children_first:
                _end_sessions(self._process.pid, self._stop_seconds)
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_seconds)
        self._end_group()

    def _end_group(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
            self._watcher = None

    def last_line(self) -> str:
        """The last line of its log that says anything."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def _end_sessions(pid: int, seconds: float) -> None:
    """Asks the sessions that a process has started to end, and waits for that."""
    with suppress(psutil.NoSuchProcess):
        leaders = [child for child in psutil.Process(pid).children() if _leads_session(child.pid)]
        for child in leaders:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        psutil.wait_procs(leaders, timeout=seconds)


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _how(code: int) -> str:
    """How a process ended, from its return code."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
