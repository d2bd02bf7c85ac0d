from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from pipelines.commands import doctor, pages
from pipelines.commands.doctor import Finding, examine
from pipelines.tracking import runs


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn, and no other machine is asked, unless a test says so."""
    monkeypatch.setattr(doctor, "_child", lambda code, root: subprocess.CompletedProcess([], 0, "", ""))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    """A project of one commit."""
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    (tmp_path / ".dvc").mkdir()
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "a")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def found(root: Path) -> dict[str, Finding]:
    return dict(examine(root))


def test_a_machine_that_has_everything_fails_nowhere(healthy: Path) -> None:
    findings = found(healthy)
    assert [name for name, finding in findings.items() if finding.verdict == "FAIL"] == []
    assert {"Python", "project", "disk", "loopback", "drawing", "GPU", "hub", "MLflow", "Prefect"} <= findings.keys()
    assert all("\n" not in finding.text for finding in findings.values())
    assert findings["MLflow"].text.startswith("none yet; the first run makes sqlite:///")
    assert not (healthy / ".local/mlflow.db").exists()  # to look changes nothing
    with runs.reachable(healthy):
        runs.client(healthy).create_registered_model("vldac-a")
    assert found(healthy)["MLflow"].text.endswith("1 registered models")


@pytest.mark.parametrize(
    ("lacking", "cure"), [("params.yaml", "vldac new DIRECTORY"), (".git", "git init"), (".dvc", "dvc init")]
)
def test_a_directory_that_is_no_project_is_told_what_it_lacks(healthy: Path, lacking: str, cure: str) -> None:
    path = healthy / lacking
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    finding = found(healthy)["project"]
    assert finding.verdict == "FAIL"
    assert cure in finding.text


def test_a_program_that_is_missing_is_one_line_and_the_rest_is_looked_at(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(healthy))
    findings = found(healthy)
    assert findings["project"] == Finding("FAIL", "git is not installed; install it")
    assert "Prefect" in findings


def test_a_full_disk_and_a_machine_that_cannot_draw_fail(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    error = "Traceback\nenvs.base.SimulatorError: MiniWorld cannot draw: apt-get install libegl1"
    monkeypatch.setattr(doctor, "_child", lambda code, root: subprocess.CompletedProcess([], 1, "", error))
    findings = found(healthy)
    assert findings["disk"] == Finding("FAIL", f"1.0 GiB free in {healthy}; a run needs 2: free some space (vldac gc)")
    assert findings["drawing"] == Finding("FAIL", "MiniWorld cannot draw: apt-get install libegl1")


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_port_that_is_taken_is_said_and_fails_nobody(
    healthy: Path, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PORTS", {"mlflow": listening})
    finding = found(healthy)[f"port {listening}"]
    assert finding.verdict == "-"
    assert f"vldac mlflow --port {listening + 1}" in finding.text


def test_a_prefect_server_that_is_away_is_no_failure_and_a_wrong_one_is(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(url: str) -> Any:
        raise ConnectionRefusedError("refused")

    monkeypatch.setenv("PREFECT_API_URL", "http://me:secret@127.0.0.1:1/api")
    monkeypatch.setattr(doctor.run, "_get", refused)
    assert found(healthy)["Prefect"].verdict == "-"
    monkeypatch.setattr(doctor.run, "_get", lambda url: "<html>")
    finding = found(healthy)["Prefect"]
    assert finding.verdict == "FAIL"
    assert "PREFECT_API_URL must be its API" in finding.text
    assert "secret" not in finding.text


class _Hub(BaseHTTPRequestHandler):
    """Answers as a hub, or a proxy, that refuses this request."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(403)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


def test_the_hub_is_asked_where_and_as_downloads_are(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@127.0.0.1:1")
    finding = found(healthy)["hub"]
    assert finding.verdict == "-"
    assert "secret" not in finding.text
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    with HTTPServer(("127.0.0.1", 0), _Hub) as proxy:
        threading.Thread(target=proxy.handle_request, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        assert found(healthy)["hub"] == Finding("ok", "http://hub.invalid answers")
    assert _Hub.asked == ["http://hub.invalid"]
