"""Child processes that never outlive their parent, in whatever way the parent ends.

A child runs in a session of its own, so that an exception here ends it together with everything it started, and it
asks the kernel for a SIGKILL when this process dies, so that `kill -9` of the parent ends it too (Linux; elsewhere
only the first holds).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
#: Seconds between the request to stop and the kill.
GRACE = 6.0


def die_with_parent(parent: int | None = None) -> None:
    """Asks the kernel to kill this process when its parent dies; ends it at once if `parent` is gone already."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def tie_to_parent(command: Sequence[str]) -> list[str]:
    """The command line that starts `command` so that it is killed with this process.

    The request to the kernel is made by a small interpreter that then becomes the command: a `preexec_fn` could
    deadlock in a process with threads. The kernel ties the child to the *thread* that started it.
    """
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *command]


def stream(command: Sequence[str], on_line: Callable[[str], None], *, cwd: Path, env: Mapping[str, str]) -> int:
    """Runs `command` to its end and hands over each line that it prints, stdout and stderr together, as it comes.

    Returns:
        The exit code, negative where a signal ended the command.
    """
    process = subprocess.Popen(
        tie_to_parent(command),
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            on_line(line.rstrip())
        return process.wait()
    finally:
        stop_group(process)
        process.stdout.close()


def stop_group(process: subprocess.Popen[str]) -> None:
    """Ends what is left of a process that leads its own group: Ctrl-C's signal, `GRACE` seconds, SIGKILL.

    DVC ignores the first and waits for its stage, which ends what it runs and its MLflow run, innermost first.
    """
    with suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_when_parent_dies(pid: int) -> subprocess.Popen[bytes]:
    """Ties a process that something else started to this one: a watcher kills it once this process is gone."""
    return _watch("f=os.pidfd_open(int(sys.argv[1]));sys.stdin.read();signal.pidfd_send_signal(f,9)", pid)


def kill_group_when_parent_dies(leader: int) -> subprocess.Popen[bytes]:
    """Ties a process group to this process; `leader` must be a child that this process has not yet waited for."""
    return _watch("sys.stdin.read();os.killpg(int(sys.argv[1]),9)", leader)


def _watch(code: str, pid: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"import os,signal,sys;{code}", str(pid)],
        stdin=subprocess.PIPE,  # its end is this process's end, however that comes
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # replaces this process; no shell
