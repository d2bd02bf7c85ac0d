"""The watch by which the test of `make run` sees that it asks nobody outside this machine for anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.watch import outside, watched


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
