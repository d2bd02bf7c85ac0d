"""The default path asks nobody outside this machine for anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.service_client import clean_environment
from tests.integration.test_integration_make_run import clone

#: Every Python process of the run writes down where it tries to connect to, and whom it asks the name of.
WATCH = """
import os, socket, sys

def note(address):
    host = address[0] if isinstance(address, tuple) else None
    if host is not None:
        with open(os.environ["WATCH_FILE"], "a") as file:
            file.write(f"{host} {' '.join(' '.join(sys.orig_argv).split())[:200]}\\n")

def audit(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        note(arguments[1])
    elif event == "socket.getaddrinfo" and arguments[0] is not None:
        note((os.fsdecode(arguments[0]),))

sys.addaudithook(audit)
"""
HERE = {"127.0.0.1", "::1", "localhost", "0.0.0.0", ""}


def watched(tmp_path: Path, root: Path) -> dict[str, str]:
    """An environment in which every Python process is watched."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(WATCH)
    env = clean_environment(root)
    return env | {"PYTHONPATH": f"{hook}:{root}", "WATCH_FILE": str(tmp_path / "connections")}


def outside(tmp_path: Path) -> list[str]:
    import socket  # noqa: PLC0415

    lines = (tmp_path / "connections").read_text().splitlines()
    return [line for line in lines if line.split(" ", 1)[0] not in HERE | {socket.gethostname()}]


def test_the_watch_sees_children_names_and_addresses(tmp_path: Path) -> None:
    code = (
        "import socket, subprocess, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "try: s.connect(('192.0.2.1', 9))\n"
        "except OSError: pass\n"
        "child = 'import socket\\ntry: socket.getaddrinfo(\"host.invalid\", 80)\\nexcept OSError: pass'\n"
        "subprocess.run([sys.executable, '-c', child])"
    )
    subprocess.run([sys.executable, "-c", code], env=watched(tmp_path, tmp_path), check=True)
    assert [line.split(" ", 1)[0] for line in outside(tmp_path)] == ["192.0.2.1", "host.invalid"]


@pytest.mark.slow
def test_a_whole_run_stays_on_this_machine(tmp_path: Path, tiny_config: Any) -> None:
    changes = {"train": {"total_steps": 32}, "warm_start": {"updates": 5}, "evaluate": {"episodes": 2}}
    root = clone(tmp_path / "project", tiny_config(changes).model_dump(mode="json"))
    env = watched(tmp_path, root)
    command = [sys.executable, "-m", "pipelines.run"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = (tmp_path / "connections").read_text()
    assert "127.0.0.1" in seen  # its own Prefect server
    assert outside(tmp_path) == []
