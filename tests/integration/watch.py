"""Watches where the processes of a run connect to."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.integration.service_client import clean_environment

#: Every Python process writes down where it tries to connect to, and whom it asks the name of.
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
    """Every attempt to reach another machine: its address or name, and the command that made it."""
    lines = (tmp_path / "connections").read_text().splitlines()
    return [line for line in lines if line.split(" ", 1)[0] not in HERE | {socket.gethostname()}]
