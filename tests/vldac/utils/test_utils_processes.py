"""Children print line by line, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import SLEEPER, alive, gone
from vldac.utils import processes


def test_lines_come_as_they_are_printed_with_both_streams_and_the_exit_code(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import sys; print('out'); print('err', file=sys.stderr); print('\\xe9'); sys.exit(3)"
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    assert processes.stream([sys.executable, "-c", code], lines.append, cwd=tmp_path, env=env) == 3
    assert lines == ["out", "err", "é"]


def test_the_exit_code_of_a_killed_command_is_negative(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    assert processes.stream(command, print, cwd=tmp_path, env=os.environ) == -signal.SIGKILL


def test_an_exception_ends_the_command_and_all_that_it_started(tmp_path: Path) -> None:
    pids: list[int] = []

    def cancel(line: str) -> None:
        pids.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.stream([sys.executable, "-c", SLEEPER], cancel, cwd=tmp_path, env=os.environ)
    assert len(pids) == 2
    assert gone(*pids)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a request that only Linux's kernel takes")
def test_a_command_dies_with_a_parent_that_is_killed() -> None:
    parent = (
        "import subprocess, sys; from vldac.utils.processes import tie_to_parent, kill_when_parent_dies\n"
        "tied = subprocess.Popen(tie_to_parent(['sleep', '300'])); other = subprocess.Popen(['sleep', '300'])\n"
        "kill_when_parent_dies(other.pid); print(tied.pid, other.pid, flush=True); tied.wait()"
    )
    process_ = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process_.stdout is not None
    pids = [int(pid) for pid in process_.stdout.readline().split()]
    assert all(map(alive, pids))
    process_.kill()
    process_.wait()
    assert gone(*pids)
