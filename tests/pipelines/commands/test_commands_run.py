"""What `vldac run` makes of the Prefect server that it is told to use."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipelines.commands import run
from pipelines.core.errors import PipelineError


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
