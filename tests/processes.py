"""Processes that a test watches: whether they are alive, and whether they are gone in time."""

from __future__ import annotations

import time
from pathlib import Path

#: A program that starts a child, prints both process ids, and waits.
SLEEPER = (
    "import os, subprocess, time; child = subprocess.Popen(['sleep', '300'])\n"
    "print(os.getpid(), child.pid, flush=True); time.sleep(300)"
)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(*pids: int) -> bool:
    deadline = time.monotonic() + 60
    while any(map(alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
