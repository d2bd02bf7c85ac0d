"""A policy behind HTTP: its answers, what is refused and how, health, readiness, metrics."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from pipelines.commands import cli
from pipelines.evaluation import serving
from tests.integration.service_client import free_port
from vldac.utils import progress
from vldac.utils.errors import UserError


class Policy:
    """Answers, once it is let, with what it was shown."""

    def __init__(self) -> None:
        self.open, self.asked, self.temperature = threading.Event(), threading.Event(), 0.0
        self.open.set()

    def at(self, temperature: float) -> Policy:
        self.temperature = temperature
        return self

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Any]:
        self.asked.set()
        self.open.wait(30)
        if any("break" in observation["prompt"] for observation in observations):
            raise RuntimeError("CUDA error: device-side assert triggered\nand more")
        if any("refuse" in observation["prompt"] for observation in observations):
            raise UserError("the prompt is too long; shorten it")
        return [
            SimpleNamespace(
                action="go",
                parsed=None,
                text=" ".join(
                    [
                        "x".join(map(str, o["frames"].shape)),
                        str(self.temperature),
                        str(seed),
                        *map(str, o.get("history", ())),
                    ]
                ),
            )
            for o, seed in zip(observations, seeds, strict=True)
        ]


@pytest.fixture
def policy() -> Policy:
    return Policy()


@pytest.fixture
def client(policy: Policy) -> Iterator[TestClient]:
    actor: Any = policy
    with TestClient(serving.application(actor, size=2, capacity=1, patience=60.0)) as made:
        yield made
        policy.open.set()


def question(**changes: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4)).save(buffer, "PNG")
    return {"image": base64.b64encode(buffer.getvalue()).decode(), "instruction": "go", **changes}


def measured(client: TestClient, headers: dict[str, str] | None = None) -> dict[tuple[str, ...], float]:
    """What Prometheus is told: values by name and labels."""
    families = text_string_to_metric_families(client.get("/metrics", headers=headers).text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_an_answer_is_of_what_was_asked_by_temperature_and_seed(client: TestClient) -> None:
    reply = client.post("/act", json=question(temperature=0.5, seed=2**63))
    assert reply.status_code == 200
    assert reply.json() == {"action": "go", "thoughts": None, "text": f"1x4x8x3 0.5 {2**63}"}
    reply = client.post("/act", json=question(history=[["where?", "there"]]))
    assert reply.json()["text"] == "1x4x8x3 0.0 0 Exchange(prompt='where?', answer='there')"
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("changes", "status", "cause"),
    [
        ({"image": "no picture"}, 400, "base64"),
        ({"instruction": " "}, 400, "instruction must be a text that is not empty"),
        ({"instruction": "refuse"}, 400, "the prompt is too long; shorten it"),
        ({"temperature": -1.0}, 400, "temperature: "),
        ({"seed": 2**64}, 400, "seed: "),
        ({"seed": "1"}, 400, "seed: "),
        ({"history": [["go"]]}, 400, "history must be a list of pairs"),
        ({"history": [["go", 1]]}, 400, "history.0.1: "),
        ({"model": "other"}, 400, "model: Extra inputs"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    changes: dict[str, Any], status: int, cause: str, client: TestClient
) -> None:
    reply = client.post("/act", json=question(**changes))
    assert reply.status_code == status
    assert cause in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_bodies_of_another_kind_or_size_are_not_read(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.post("/act", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    json_ = {"content-type": "application/json"}
    for damaged in (b"{", b"[]", b"[" * 100_000, b"\xff"):
        assert client.post("/act", content=damaged, headers=json_).status_code == 400
    monkeypatch.setattr(serving, "MAX_BODY", 10)
    assert client.post("/act", content=b" " * 11, headers=json_).status_code == 413


def test_a_full_queue_says_so_and_when_to_come_back(policy: Policy, client: TestClient) -> None:
    policy.open.clear()
    replies: list[int] = []
    threads = [
        threading.Thread(target=lambda: replies.append(client.post("/act", json=question()).status_code))
        for _ in range(2)
    ]
    threads[0].start()
    assert policy.asked.wait(30)
    threads[1].start()
    while client.get("/ready").status_code == 200:
        threads[1].join(0.01)
    refused = client.post("/act", json=question())
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert client.get("/health").status_code == 200
    # Nothing is decoded for a question that finds no room.
    assert client.post("/act", json=question(image="no picture")).status_code == 503
    assert "vldac_queue_length 1.0" in client.get("/metrics").text
    policy.open.set()
    for thread in threads:
        thread.join()
    assert replies == [200, 200]
    samples = measured(client)
    assert samples["vldac_requests_total", "200"] == 2
    assert samples["vldac_requests_total", "503"] == 2
    assert samples["vldac_request_seconds_count",] == 2
    assert samples["vldac_disk_free_bytes",] > 0


def test_a_policy_that_fails_is_told_logged_and_counted(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    reply = client.post("/act", json=question(instruction="break"))
    assert (reply.status_code, reply.json()) == (500, {"error": "the policy failed; its server's log has the cause"})
    assert "device-side assert triggered" in caplog.text
    assert measured(client)["vldac_requests_total", "500"] == 1
    assert client.post("/act", json=question()).status_code == 200


def test_a_policys_directory_is_loaded_with_its_own_code_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("models/policy", "models/base", "own"):
        (tmp_path / name).mkdir(parents=True)
    described = {"adapter": True, "config": {"extensions": "own", "model": {"base": "tiny"}}}
    (tmp_path / "models/policy/vldac.json").write_text(json.dumps(described))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(progress.TO_PARENT, "1")
    monkeypatch.setattr(serving, "_load", lambda *_: Policy())
    with serving.opened(tmp_path, "models/policy", size=1, capacity=1, patience=9.0) as (name, _):
        assert name == "models/policy"
        assert str(tmp_path / "own") in sys.path
    assert "loading models/policy" in capsys.readouterr().out


def test_with_a_token_only_those_who_have_it_are_answered() -> None:
    actor: Any = Policy()
    with TestClient(serving.application(actor, size=1, capacity=1, patience=9.0, token="secret")) as client:
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
            assert client.post("/act", json=question(), headers=headers).status_code == 401
            assert client.get("/metrics", headers=headers).status_code == 401
        assert client.get("/health").status_code == 200
        known = {"authorization": "Bearer secret"}
        assert client.post("/act", json=question(), headers=known).status_code == 200
        assert measured(client, known)["vldac_requests_total", "401"] == 3


def test_other_machines_are_let_in_with_a_token_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.call(["models", "serve", "nowhere", "--host", "0.0.0.0"]) == 1
    assert "VLDAC_SERVE_TOKEN is not set; set it" in capsys.readouterr().err
    monkeypatch.setenv("VLDAC_SERVE_TOKEN", "secret")
    assert cli.call(["models", "serve", "nowhere", "--host", "0.0.0.0", "--port", str(free_port())]) == 1
    assert "nowhere holds no trained policy" in capsys.readouterr().err
    assert cli.call(["models", "serve", "nowhere", "--queue", "0"]) == 2
