"""Starting, asking and ending one worker process of `envs.vector`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection, wait
from typing import Any

from envs.base import SimulatorError

#: A simulator's numerical libraries must not compete with the learner for cores, nor Mesa's software renderer, which
#: with 0 draws in the calling thread.
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "LP_NUM_THREADS": "0",
}
_CLOSE_DEADLINE = 5.0  # seconds for simulators to close before their process is killed


class WorkerLost(SimulatorError):
    """A worker died, raised an exception or did not answer in time."""


class WorkerProcess:
    """A fresh interpreter that runs `envs.vector.worker`.

    It is started with `subprocess` and not with `multiprocessing`, whose spawned children import the parent's
    `__main__` again: with a training script that would be torch, in every worker. It leads a session of its own, so
    Ctrl-C reaches the parent only and killing its group also ends what its simulators started. Its standard input is
    a pipe that closes with the parent, however that ends; the worker exits then.

    Args:
        memory: file descriptor of the shared frames.
    """

    def __init__(self, memory: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "envs.vector.worker", str(theirs.fileno()), str(memory)],
                stdin=subprocess.PIPE,
                stdout=2,  # what simulators print must not mix with the results of a command
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": search_path},
                pass_fds=(theirs.fileno(), memory),
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())

    def send(self, command: str, arguments: Any) -> None:
        """Sends a request; `receive` takes its reply. A worker that is gone is noticed there."""
        with contextlib.suppress(ConnectionError):
            self.connection.send_bytes(json.dumps({"command": command, "arguments": arguments}).encode())

    def receive(self, deadline: float) -> Any:
        """Waits for the reply until `deadline` (of `time.monotonic`).

        Raises:
            WorkerLost: with the reason, for which the worker is killed.
            SimulatorError: the simulators cannot be made from what was asked for, by this worker or another.
        """
        if not wait([self.connection], max(deadline - time.monotonic(), 0.0)):
            self.kill()
            raise WorkerLost("did not answer in time")
        try:
            reply = json.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionError):
            self.kill()
            raise WorkerLost(f"died ({_exit(self.process.returncode)})") from None
        if isinstance(reply, dict) and "error" in reply:
            self.kill()
            if reply["final"]:
                raise SimulatorError(reply["error"])
            raise WorkerLost(reply["error"])
        return reply

    def kill(self) -> None:
        """Ends the process and its children at once."""
        # A worker that has not been waited for still owns its process id, so the group cannot be somebody else's.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        """Lets the simulators close, then ends the process."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_CLOSE_DEADLINE)
        self.kill()


def _exit(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    return signal.Signals(-code).name
