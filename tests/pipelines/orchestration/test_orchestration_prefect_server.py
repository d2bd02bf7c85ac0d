"""Prefect's and MLflow's servers answer their own pages and programs, and no other website."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipelines.commands import pages
from pipelines.orchestration.prefect_server import Guard
from pipelines.orchestration.services import Service
from tests.integration.service_client import free_port, until

FLOW = json.dumps({"name": "planted"})


def ask(url: str, method: str, path: str, headers: dict[str, str], body: str | None = None) -> tuple[int, str, str]:
    """Status, body and allowed origin of an answer; `Host` is sent as `headers` say."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(None if body is None else body.encode())
    reply = connection.getresponse()
    said = reply.read().decode()
    connection.close()
    return reply.status, said, reply.headers.get("Access-Control-Allow-Origin", "")


def test_another_website_can_neither_write_nor_read_nor_ask(prefect_server: str) -> None:
    host = urlsplit(prefect_server).netloc
    json_ = {"Content-Type": "application/json"}
    foreign = ("http://evil.com", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.com", f"http://evil.com@{host}")
    for origin in foreign:
        wrong = {"Origin": origin}
        for method, path, body in (
            ("POST", "/api/flows/", FLOW),
            ("POST", "/api/logs/filter", "{}"),
            ("GET", "/api/health", None),
            ("OPTIONS", "/api/flows/", None),
        ):
            asked = {**wrong, **json_, "Access-Control-Request-Method": "POST"}
            status, _, allowed = ask(prefect_server, method, path, asked, body)
            assert (status, allowed) == (403, ""), (origin, method, path)
    status, said, _ = ask(prefect_server, "POST", "/api/flows/filter", json_, "{}")
    assert status == 200
    assert "planted" not in said


@pytest.mark.parametrize("name", ["evil.com", "evil.com:80", "127.0.0.1.evil.com", ""])
def test_a_name_that_is_not_the_server_s_is_refused(prefect_server: str, name: str) -> None:
    for path in ("/api/health", "/"):
        assert ask(prefect_server, "GET", path, {"Host": name})[0] == 403


def test_the_own_page_and_programs_are_served(prefect_server: str) -> None:
    port = urlsplit(prefect_server).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        own = {"Host": host, "Origin": f"http://{host}", "Content-Type": "application/json"}
        assert ask(prefect_server, "POST", "/api/flows/filter", own, "{}")[0] == 200
        assert ask(prefect_server, "GET", "/api/health", {"Host": host})[:2] == (200, "true")
    assert json.loads(ask(prefect_server, "GET", "/ui-settings", {})[1])["api_url"] == "/api"


def talk(guard: Guard, kind: str, **headers: str) -> list[dict[str, Any]]:
    """What a guard answers to one connection."""
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": kind, "path": "/", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    asyncio.run(guard(scope, receive, send))
    return answers


def test_web_sockets_are_guarded_and_names_and_sites_can_be_added() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "served"})

    guard = Guard(app, ["gpu1"], ["https://runs.example", "*"])
    assert talk(guard, "websocket", host="gpu1:4200", origin="http://evil.com")[0]["type"] == "websocket.close"
    assert talk(guard, "websocket", host="gpu1:4200", origin="http://gpu1:4200") == [{"type": "served"}]
    assert talk(guard, "http", host="GPU1", origin="https://runs.example") == [{"type": "served"}]
    assert talk(guard, "http", host="gpu2")[0]["status"] == 403
    assert talk(guard, "http", host="gpu1", origin="http://[")[0]["status"] == 403
    assert talk(guard, "lifespan") == [{"type": "served"}]


@pytest.mark.slow
def test_mlflow_refuses_other_websites_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.chdir(tmp_path)
    command = pages._mlflow(tmp_path, port)
    url = f"http://127.0.0.1:{port}"
    served = Service(
        "mlflow",
        [sys.executable, *command],
        cwd=tmp_path,
        env=dict(os.environ),
        logs=tmp_path,
        health=f"{url}/health",
    )
    served.start()
    try:
        until(served.healthy, 180, "MLflow answers")
        body = json.dumps({"name": "planted"})
        create = ("POST", "/api/2.0/mlflow/experiments/create")
        json_ = {"Content-Type": "application/json"}
        assert ask(url, *create, {**json_, "Origin": "http://evil.com"}, body)[0] == 403
        assert ask(url, *create, {**json_, "Host": "evil.com"}, body)[0] == 403
        preflight = {"Origin": "http://evil.com", "Access-Control-Request-Method": "POST"}
        assert ask(url, "OPTIONS", create[1], preflight)[2] == ""
        assert ask(url, *create, {**json_, "Origin": url}, body)[0] == 200
    finally:
        served.stop()
