"""One DVC stage as a child process: its lines as they come, and one line that says why it failed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from pipelines.core.errors import PipelineError
from vldac.utils import processes, progress

#: What DVC prints for a person who types `dvc repro`: of no use in a pipeline's log.
_CHATTER = re.compile(
    r"(Updating|Generating) lock file|To (track|enable) |\tgit add |\tdvc config |Use `dvc push`"
    r"|Data and pipelines are up|Stage '[\w@-]+' didn't change|WARNING: Process .* had been killed. Auto removed it"
)
#: What it says of itself: which command it runs, and what follows from the line before.
_OF_DVC = re.compile(r"Running stage '|> python -m |ERROR: failed to reproduce")
#: What DVC prints after a cause of its own that it did not expect.
_SUPPORT = re.compile(r"Having any troubles\?|https://dvc\.org/(support|doc|chat)\S*\W*$")
_INVALID = re.compile(r"'(?:\S*/)?(dvc\.(?:lock|yaml))' is invalid")
NO_GIT = "the project is not in git; type `git init && git add -A && git commit -m start`, then the same command again"
_BLOCKER = re.compile(r"\(PID (\d+)\): ")
_LOCK = re.compile(r"remove '(.+/rwlock)' and try again")
_EXITED = re.compile(r"exited with (-?\d+)\s*$")


class StageError(PipelineError):
    """A stage failed.

    Attributes:
        interrupted: a signal ended it; another attempt continues where this one stopped.
    """

    def __init__(self, message: str, *, interrupted: bool = False) -> None:
        super().__init__(message)
        self.interrupted = interrupted


def resumable(_task: Any, _run: Any, state: Any) -> bool:
    """For Prefect: only what a signal ended is worth another attempt; a stage that failed would fail again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.interrupted


def repro(root: Path, name: str, say: Callable[[str], None], *, force: bool = False) -> bool:
    """Runs one DVC stage if it is out of date.

    Args:
        root: the project.
        name: of the stage.
        say: takes every line that the stage prints.
        force: run it even if it is up to date.

    Returns:
        Whether it ran; False where its results were there already, or were restored from DVC's cache.

    Raises:
        StageError: it failed; the message is the last `error: ...` line that it printed.
    """

    def for_a_person(line: str) -> None:
        if not _OF_DVC.match(line):
            say(line)

    command = [sys.executable, "-m", "dvc", "repro", "--single-item", name, *(["--force"] if force else [])]
    lines = follow(name, command, for_a_person, cwd=root, env=environment())
    return any(line.startswith("Running stage") for line in lines)


def follow(
    name: str, command: Sequence[str], say: Callable[[str], None], *, cwd: Path, env: Mapping[str, str]
) -> list[str]:
    """Runs a command that may take long, and shows how far it is.

    Args:
        name: of what it does, as a person reads it.
        command: to run.
        say: takes every line that it prints.
        cwd: where it runs.
        env: its whole environment.

    Returns:
        Its lines.

    Raises:
        StageError: it failed; the message is the last `error: ...` line that it printed.
    """
    lines: list[str] = []
    with progress.Relay(name, say) as relay:

        def on_line(line: str) -> None:
            if line and not _CHATTER.match(line) and relay.take(line):
                lines.append(line)

        code = processes.stream(command, on_line, cwd=cwd, env={**env, progress.TO_PARENT: "1"})
    if code:
        raise failure(name, code, lines)
    return lines


def call(name: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> list[str]:
    """Runs a command that says nothing of use while it runs, and returns its lines.

    Raises:
        StageError: it failed; the message is its own last line.
    """
    lines: list[str] = []
    if code := processes.stream(command, lambda line: lines.append(line) if line else None, cwd=cwd, env=env):
        raise failure(name, code, lines)
    return lines


def environment() -> dict[str, str]:
    """This process's environment for a child: no flow-run context, this interpreter first, and output at once."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT__")}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    env["PYTHONUNBUFFERED"] = "1"
    return env


def failure(name: str, code: int, lines: Sequence[str]) -> StageError:
    """The one line that says what went wrong, out of all that was printed."""
    exited = next((int(match[1]) for line in reversed(lines) if (match := _EXITED.search(line))), code)
    interrupted = code < 0 or exited < 0 or 128 < exited <= 128 + 64  # 128 + n: a shell's word for signal n
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if said:
        return StageError(said[-1], interrupted=interrupted)
    if any("is busy" in line for line in lines):
        return StageError(_busy(lines))
    if interrupted:
        return StageError(f"stage {name} was ended by a signal (exit code {exited}); run it again", interrupted=True)
    if any(line.endswith("is not a git repository") for line in lines):
        return StageError(NO_GIT)
    if file := next((match[1] for line in lines if (match := _INVALID.search(line))), None):
        return StageError(
            f"{file} is no valid YAML, as after a merge with conflicts; resolve them, or take one side "
            f"(git checkout --ours {file}), and run the same command again"
        )
    said = [line for line in lines if not _SUPPORT.search(line)]
    # DVC's last line follows from the one before it, unless it is the only one: then it holds the cause itself.
    before = [line for line in said if not line.startswith("ERROR: failed to reproduce")]
    if before == said:  # it was DVC that failed: what follows its error are details
        before = [line for line in said if line.startswith("ERROR: ")] or said
    last = (before or said or [f"exit code {code}"])[-1].removeprefix("ERROR: ")
    return StageError(f"stage {name}: {last}")


def _busy(lines: Sequence[str]) -> str:
    """What to do about the processes that DVC waits for: it knows them by number, and a number may be given again."""
    blockers = [int(match[1]) for line in lines for match in _BLOCKER.finditer(line)]
    lock = next((match[1] for line in lines if (match := _LOCK.search(line))), None)
    if lock and blockers and all(map(_is_another_program, blockers)):
        return (
            f"a dvc command that was killed has left a lock, and process {blockers[0]} that it names is another "
            f"program now; type `rm '{lock}'` and the same command again"
        )
    named = f" (process {', '.join(map(str, dict.fromkeys(blockers)))})" if blockers else ""
    return f"another dvc command works in this project{named}; wait for it or stop it"


def _is_another_program(pid: int) -> bool:
    """Whether a running process is certainly none of DVC."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return not any("dvc" in part for part in psutil.Process(pid).cmdline())
    return False
