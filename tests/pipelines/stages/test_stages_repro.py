"""What DVC waits for: another command, or a lock that a killed one has left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipelines.stages.repro import failure


def said(pid: int) -> str:
    lines = [
        "ERROR: failed to reproduce 'train': '/p/models' is busy, it is being blocked by:",
        f"  (PID {pid}): /p/.venv/bin/dvc repro",
        "",
        "If there are no processes with such PIDs, you can manually remove '/p/.dvc/tmp/rwlock' and try again.",
    ]
    return str(failure("train", 255, lines))


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with DVC."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def test_a_lock_of_a_process_whose_number_another_has_now_may_be_removed(other: subprocess.Popen[bytes]) -> None:
    expected = f"process {other.pid} that it names is another program now; type `rm '/p/.dvc/tmp/rwlock'`"
    assert expected in said(other.pid)
    assert "rm" not in said(2**22)  # there is no such process: DVC drops its lock itself


def test_a_lock_of_a_running_dvc_command_is_to_be_waited_for() -> None:
    command = [sys.executable, "-c", "input()", "dvc", "repro"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        expected = f"another dvc command works in this project (process {process.pid}); wait for it or stop it"
        assert said(process.pid) == expected
        process.kill()
    assert "rm" not in str(failure("x", 255, ["ERROR: '/p/models' is busy, it is being blocked by:"]))
