"""Messages arrive: of a run that failed, and of what happened to a model, by a block of a real Prefect server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events.clients import get_events_client
from prefect.events.schemas.events import Event, Resource
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Failed

from pipelines.core.errors import PipelineError
from pipelines.evaluation import versions
from pipelines.orchestration import deployments, flows, notifications
from pipelines.tracking.registry import Score
from tests.integration.service_client import until


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a receiver of webhooks on loopback, and what it has received."""
    messages: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook", messages
        server.shutdown()
        thread.join()


@flow(name="fails")
def fails() -> None:
    """Is never run."""


def test_a_failure_and_a_worse_champion_reach_a_webhook(
    prefect_server: str, received: tuple[str, list[dict[str, Any]]]
) -> None:
    address, messages = received

    async def send() -> list[str]:
        block = CustomWebhookNotificationBlock(
            name="test", url=address, json_data={"subject": "{{subject}}", "text": "{{body}}"}, headers={}, cookies={}
        )
        await block.save("receiver", overwrite=True)
        async with get_client() as client:
            lines = await deployments.notify(client, ["custom-webhook/receiver", "slack-webhook/nobody"])
            run = await client.create_flow_run(fails, state=Failed(message="train: out of memory"))
        assert run.state is not None
        resource = Resource({"prefect.resource.id": "vldac.model.vldac-a"})
        payload = {"subject": "worse tonight: vldac-a", "text": "success 0.1"}
        async with get_events_client() as events:
            await events.emit(Event(event=notifications.WORSE, resource=resource, payload=payload))
        return lines

    async def there_after(names: list[str] | None) -> tuple[int, list[str]]:
        async with get_client() as client:
            lines = await deployments.notify(client, names)
            found = [a for name in notifications.AUTOMATIONS for a in await client.read_automations_by_name(name)]
            return len(found), lines

    with temporary_settings({PREFECT_API_URL: prefect_server}):
        there, missing = asyncio.run(send())
        until(lambda: len(messages) >= 2, 60, "both messages arrive")
        assert asyncio.run(there_after(None)) == (2, [])  # from a shell that knows of no notifications
        count, (line,) = asyncio.run(there_after(["slack-webhook/nobody"]))  # a name that is mistyped silences nobody
        assert count == 2
        assert line.endswith("; until then, whoever was told before is told")
        assert asyncio.run(there_after([])) == (0, ["notifications have ended: VLDAC_NOTIFY is empty"])
    assert there == "notifications go to custom-webhook/receiver"
    assert missing.startswith("notifications do not go to slack-webhook/nobody: Prefect has no such block; create it")
    assert missing.endswith("then type `vldac deployments`")
    texts = {message["subject"]: message["text"] for message in messages}
    assert texts["worse tonight: vldac-a"] == "success 0.1"
    assert "train: out of memory" in texts["fails: Failed"]


def test_blocks_are_named_by_type_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notifications.BLOCKS, "slack-webhook/team, custom-webhook/ops")
    assert notifications.wanted() == ["slack-webhook/team", "custom-webhook/ops"]
    monkeypatch.setenv(notifications.BLOCKS, "")
    assert notifications.wanted() == []
    monkeypatch.delenv(notifications.BLOCKS)
    assert notifications.wanted() is None
    monkeypatch.setenv(notifications.BLOCKS, "https://hooks.example/secret")
    with pytest.raises(PipelineError, match="write TYPE/NAME"):
        notifications.wanted()


@pytest.mark.parametrize(("success", "worse"), [(0.2, True), (0.55, False), (0.9, False)])
def test_only_a_champion_that_is_worse_beyond_the_intervals_is_told_of(
    success: float, worse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    then = {"success": 0.6, "success_ci": [0.5, 0.7]}
    champion = versions.Version("vldac-a", "3", ("champion",), {"evaluate.trained": json.dumps(then)}, None)
    tonight = {"success": success, "success_ci": [success - 0.1, success + 0.1]}
    monkeypatch.setattr(versions, "champions", lambda _: [champion])
    monkeypatch.setattr(versions, "read_summary", lambda _: {"trained": tonight})
    monkeypatch.setattr(flows, "evaluate", lambda *_: tmp_path)
    monkeypatch.setattr(flows.artifacts, "table", lambda *_: None)
    monkeypatch.setattr(flows, "get_run_logger", mock.Mock())
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(notifications, "say", lambda *words: said.append(words))
    flows.nightly.fn()
    assert [(event, model) for event, model, *_ in said] == [(notifications.WORSE, "vldac-a")] * worse
    assert flows._worse(replace(champion, tags={}), Score.of(tonight)) is False
