"""Jobs side by side: order, failures, and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vldac.evaluation.study import schedule
from vldac.evaluation.study.schedule import Command, CommandError, Commands, Usage


def python(code: str, log: Path) -> Command:
    return Command([sys.executable, "-S", "-c", code], log)


def job(codes: list[str], log: Path, ended: list[str]) -> Commands:
    try:
        for code in codes:
            used = yield python(code, log)
            assert isinstance(used, Usage)
            ended.append(code)
    except CommandError as error:
        ended.append(f"failed: {error}")
        raise
    except GeneratorExit:
        ended.append("interrupted")
        raise


def test_commands_follow_each_other_and_a_failure_stops_its_own_job_only(tmp_path: Path) -> None:
    ended: list[str] = []
    bad = "import sys; print('error: no disk; free some', file=sys.stderr); sys.exit(3)"
    jobs = [
        ("a", job([bad, "print(1)"], tmp_path / "a.log", ended)),
        ("b", job(["print(2)", "print(3)"], tmp_path / "b.log", ended)),
    ]
    failed = schedule.run(jobs, 1)
    assert failed == {"a": f"no disk; free some; see {tmp_path / 'a.log'}"}
    assert ended == [f"failed: {failed['a']}", "print(2)", "print(3)"]
    assert (tmp_path / "b.log").read_text() == "2\n3\n"


def test_no_more_at_a_time_than_told(tmp_path: Path) -> None:
    mark = (
        "import os, time, pathlib; here = pathlib.Path({!r}); me = here / str(os.getpid()); me.touch(); "
        "time.sleep(0.2); print(len(list(here.iterdir()))); me.unlink()"
    )
    (tmp_path / "now").mkdir()
    jobs = [(str(i), job([mark.format(str(tmp_path / "now"))], tmp_path / "log", [])) for i in range(6)]
    assert schedule.run(jobs, 2) == {}
    counts = [int(line) for line in (tmp_path / "log").read_text().split()]
    assert len(counts) == 6
    assert max(counts) <= 2


def test_what_a_command_took_counts_the_processes_it_waited_for(tmp_path: Path) -> None:
    spin = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {spin!r}], check=True)"
    took: list[Usage] = []

    def measured() -> Commands:
        took.append((yield python(nested, tmp_path / "log")))

    assert schedule.run([("a", measured())], 1) == {}
    assert took[0].cpu_s >= 0.3
    assert took[0].wall_s > 0


def test_commands_are_nice(tmp_path: Path) -> None:
    jobs = [("a", job(["import os; print(os.nice(0))"], tmp_path / "log", []))]
    assert schedule.run(jobs, 1, niceness=3) == {}
    assert int((tmp_path / "log").read_text()) == min(19, os.nice(0) + 3)


def test_an_interrupt_ends_every_child_and_is_seen_by_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    ended: list[str] = []
    monkeypatch.setattr(schedule, "INTERVAL", 0.0)

    def progress(running: list[str]) -> None:
        assert running == ["a"]
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        schedule.run([("a", job([code], tmp_path / "log", ended))], 1, progress=progress)
    assert ended == ["interrupted"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        "import sys; from pathlib import Path; from vldac.evaluation.study import schedule\n"
        "def job():\n"
        f"    yield schedule.Command([sys.executable, '-S', '-c', {child!r}], Path({str(tmp_path / 'log')!r}))\n"
        "schedule.run([('a', job())], 1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=Path(__file__).parents[3])
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pid = json.loads((tmp_path / "pid").read_text())
    for _ in range(200):
        if not _alive(pid):
            return
        time.sleep(0.05)
    raise AssertionError("the child lives on")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
