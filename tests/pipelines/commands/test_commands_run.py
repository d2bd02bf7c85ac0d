"""What `vldac run` makes of the Prefect server that it is told to use."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines.commands import run
from pipelines.core.errors import PipelineError
from pipelines.orchestration import prefect_server
from pipelines.orchestration.flows import Outcome
from pipelines.tracking.promotion import Decision
from pipelines.tracking.registry import Promotion, Registered


@contextmanager
def answering(pages: dict[str, str], password: str = "") -> Iterator[str]:
    """A server of these pages, of which all but /health want the password."""
    wanted = f"Basic {base64.b64encode(password.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = password and self.path != "/health" and self.headers["Authorization"] != wanted
            self.send_response(401 if refused else 200 if self.path in pages else 404)
            self.end_headers()
            if not refused:
                self.wfile.write(pages.get(self.path, "").encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


PREFECT = {"/health": "true", "/admin/version": '"3.8.8"'}


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ({"/health": "<html>true</html>"}, "no Prefect server answers at http"),
        ({"/health": '"OK"'}, "must be its API, such as"),
        ({}, "or unset"),
    ],
)
def test_what_answers_and_is_no_prefect_server_is_said(
    monkeypatch: pytest.MonkeyPatch, pages: dict[str, str], said: str
) -> None:
    with answering(pages) as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        with pytest.raises(PipelineError, match=said):
            run._forget_unreachable_server()


def test_a_password_is_asked_for_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(PREFECT, "me:right") as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        with pytest.raises(PipelineError, match="set PREFECT_API_AUTH_STRING to user:password"):
            run._forget_unreachable_server()
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:right")
        run._forget_unreachable_server()
        assert os.environ["PREFECT_API_URL"] == url


def test_a_server_that_is_away_is_done_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    run._forget_unreachable_server()
    assert "PREFECT_API_URL" not in os.environ
    assert "this run keeps its history in .local/prefect" in capsys.readouterr().out


@pytest.mark.usefixtures("shared_server")
def test_a_prefect_server_is_used() -> None:
    url = os.environ["PREFECT_API_URL"]
    run._forget_unreachable_server()
    assert os.environ["PREFECT_API_URL"] == url


def test_the_end_of_a_run_fits_a_terminal(tmp_path: Path) -> None:
    policy = {
        "success": 0.535,
        "success_ci": [0.466, 0.603],
        "return": -10.509,
        "steps_to_goal": 129.8,
        "episodes": 200,
    }
    benchmark = {"synthetic": True, "score": 12.34, "standard_error": 1.23, "count": 100}
    titles = ("BALROG", "General understanding", "VisualWebBench", "VSI-Bench")
    registered = Registered("vldac-miniworld-onerooms6fast-v0-qwen2_vl", "12", new=True)
    reason = "better, and the 95% intervals do not overlap: success 1.000 [0.981, 1.000] against 0.510 [0.441, 0.578]"
    outcome = Outcome(
        summary={"env": "MiniWorld-OneRoomS6Fast-v0", "seed": 0, "random": policy, "base": policy, "trained": policy},
        benchmarks={model: [{"title": title, **benchmark} for title in titles] for model in ("base", "trained")},
        registered=registered,
        promotion=Promotion(registered, Decision(True, f"{reason} of the base model"), "12"),
        root=tmp_path,
    )
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    for name in ("plots/learning_curve.png", "plots/filmstrip.png", "scores/report/report.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    lines = run.closing(tmp_path, outcome).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "                version 12 @candidate @champion" in lines


@pytest.mark.parametrize(("status", "reason"), [(None, "the machine is very busy"), (3, "it ended with status 3")])
def test_a_server_that_does_not_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, status: int | None, reason: str
) -> None:
    class Server:
        server_process = SimpleNamespace(poll=lambda: status)

        def start(self) -> None:
            raise RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server.")

    monkeypatch.setattr(prefect_server, "RunServer", Server)
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(PipelineError, match=reason):
        run._tie_server()


@pytest.mark.parametrize("params", ["conf/mine.yml", "my run.yaml"])
def test_a_params_file_that_no_form_takes_is_one_line(
    params: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / params).parent.mkdir(exist_ok=True)
    (tmp_path / params).write_text("{}")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with pytest.raises(PipelineError, match=r"name a file of this project that ends in \.yaml"):
        run.run(params=params)
