"""Jobs of several commands each, so many at a time; whatever way this process ends, its children end with it."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vldac.utils.errors import UserError, expected, explain
from vldac.utils.processes import stop_group, tie_to_parent
from vldac.utils.progress import TO_PARENT

_POLL = 0.1  # seconds
#: Seconds between two lines of progress.
INTERVAL = 15.0


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        wall_s: seconds.
        cpu_s: seconds of all its processes that it has waited for.
    """

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Command:
    """A process to run.

    Attributes:
        argv: its command line.
        log: takes its output, after what is there already.
        env: its whole environment; None: this process's.
    """

    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None


#: Yields commands; each must succeed before the next is asked for, and is answered with what it took.
Commands = Generator[Command, Usage, None]


class CommandError(UserError):
    """A command of a job failed; it is raised in the job, at the `yield` of that command."""


@dataclass
class _Running:
    name: str
    commands: Commands
    command: Command
    process: subprocess.Popen[str]
    started: float


def run(
    jobs: Iterable[tuple[str, Commands]],
    at_once: int,
    *,
    niceness: int = 0,
    progress: Callable[[list[str]], None] = lambda running: None,
) -> dict[str, str]:
    """Runs jobs to their ends.

    A job that fails does not stop the others. If this function ends by an exception, such as that of Ctrl-C, everything
    that it started is ended, and each job that was running sees `GeneratorExit`.

    Args:
        jobs: name and commands of each, started in this order.
        at_once: jobs that run at a time.
        niceness: added to that of this process.
        progress: called every `INTERVAL` seconds with the names of the running jobs.

    Returns:
        By name, why a job failed.
    """
    waiting, running, failed = deque(jobs), list[_Running](), dict[str, str]()
    said = time.monotonic()

    def advance(name: str, commands: Commands, resume: Callable[[], Command]) -> None:
        try:
            command = resume()
            running.append(_start(name, commands, command, niceness))
        except StopIteration:
            return
        except Exception as error:
            commands.close()
            if not expected(error):
                raise
            failed[name] = explain(error)

    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, commands = waiting.popleft()
                advance(name, commands, partial(next, commands))
            for job in list(running):
                usage = _ended(job)
                if usage is None:
                    continue
                running.remove(job)
                code = job.process.returncode
                if code:
                    error = CommandError(f"{_cause(job.command.log, code)}; see {job.command.log}")
                    advance(job.name, job.commands, partial(job.commands.throw, error))
                else:
                    advance(job.name, job.commands, partial(job.commands.send, usage))
            if time.monotonic() - said >= INTERVAL:
                said = time.monotonic()
                progress([job.name for job in running])
            time.sleep(_POLL)
    finally:
        for job in running:
            with closing(job.commands):
                stop_group(job.process)
    return failed


def _start(name: str, commands: Commands, command: Command, niceness: int) -> _Running:
    command.log.parent.mkdir(parents=True, exist_ok=True)
    nice = ["nice", "-n", str(niceness)] if niceness else []
    env = os.environ if command.env is None else command.env
    with command.log.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            tie_to_parent([*nice, *command.argv]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env={name: value for name, value in env.items() if name != TO_PARENT},  # people read the log
            start_new_session=True,
        )
    return _Running(name, commands, command, process, time.monotonic())


def _ended(job: _Running) -> Usage | None:
    """What the command of a job took, None while it runs."""
    pid, status, used = os.wait4(job.process.pid, os.WNOHANG)
    if pid == 0:
        return None
    job.process.returncode = os.waitstatus_to_exitcode(status)
    with suppress(ProcessLookupError):  # what it left behind
        os.killpg(job.process.pid, 9)
    return Usage(time.monotonic() - job.started, used.ru_utime + used.ru_stime)


def _cause(log: Path, code: int) -> str:
    """The last error line of a log, or the exit code."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix("error: ") for line in lines[-20:] if line.startswith("error: ")]
    return said[-1] if said else f"exit code {code}"
