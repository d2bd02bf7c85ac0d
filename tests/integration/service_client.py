"""`vldac serve` for tests: started on free ports, talked to through Prefect's API, killed in parts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)
    return value


def _answer(request: urllib.request.Request) -> bytes | None:
    """The answer, or None while the server is away or its database is busy; never empty."""
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.read() or b" "
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
    except OSError:
        pass
    return None


class Served:
    """`vldac serve` in a project."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root = root
        self.prefect_port, self.mlflow_port = free_port(), free_port()
        self.output = root / "serve.out"
        self.env = env
        command = [sys.executable, "-m", "vldac", "serve"]
        command += ["--prefect-port", str(self.prefect_port), "--mlflow-port", str(self.mlflow_port)]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=root, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            until(lambda: "Ctrl-C" in self.said() or self.process.poll() is not None, 240, "serve is ready")
            assert self.process.poll() is None, self.said()
        except BaseException:
            self.process.kill()
            raise

    def said(self) -> str:
        return self.output.read_text()

    def pids(self, *words: str) -> list[int]:
        """Processes that stand in the project and whose command line holds one of `words`."""
        found = []
        for process in psutil.process_iter():
            try:
                inside = Path(process.cwd()).is_relative_to(self.root)
                if inside and process.status() != "zombie" and any(w in " ".join(process.cmdline()) for w in words):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def service(self, word: str) -> int:
        """The process of a service: the child of serve whose command line holds `word`, once there is one.

        A worker first tidies up after an earlier one and only then becomes Prefect's.
        """
        until(lambda: self._children(word), 60, f"{word} runs")
        return self._children(word)[0]

    def _children(self, word: str) -> list[int]:
        children = psutil.Process(self.process.pid).children()
        # A child that was killed a moment ago may still be in the table, and has no command line any more.
        alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return [child.pid for child in alive if word in " ".join(child.cmdline())]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.prefect_port}/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        text = until(lambda: _answer(request), 90, f"{method} {path} is answered")
        return json.loads(text) if text.strip() else None

    def deployment(self, name: str) -> str:
        return str(self.api("GET", f"/deployments/name/{name}")["id"])

    def run(self, name: str, **parameters: Any) -> str:
        body = {"parameters": parameters}
        return str(self.api("POST", f"/deployments/{self.deployment(name)}/create_flow_run", body)["id"])

    def state(self, run: str) -> str:
        return str(self.api("GET", f"/flow_runs/{run}")["state_name"])

    def ended(self, run: str, seconds: float = 420) -> str:
        return str(until(lambda: (s := self.state(run)) in ENDED and s, seconds, f"run {run} ends"))

    def logs(self, run: str) -> str:
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return "\n".join(line["message"] for line in self.api("POST", "/logs/filter", body))

    def artifacts(self, run: str) -> dict[str, Any]:
        found = self.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return {artifact["key"]: artifact for artifact in found if artifact["key"]}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def clean_environment(root: Path) -> dict[str, str]:
    """The environment of a user of the project in `root`, without this user's own variables."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_", "PYTHONPATH"))}
    env["PYTHONPATH"] = str(root)
    return env
