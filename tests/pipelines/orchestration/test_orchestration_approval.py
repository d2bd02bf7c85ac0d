"""A version becomes champion by the rule and a person's yes, given to a real Prefect server."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import threading
from pathlib import Path
from unittest.mock import Mock
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import StateType

from pipelines.orchestration import approval, flows, notifications
from pipelines.tracking import registry, runs
from tests.integration.service_client import until
from tests.pipelines.evaluation.test_evaluation_versions import NAME, Client


async def paused() -> UUID | None:
    """The run that waits."""
    wanted = filters.FlowRunFilterStateType(any_=[StateType.PAUSED])
    async with get_client() as client:
        found = await client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter(state=filters.FlowRunFilterState(type=wanted))
        )
    return found[0].id if found else None


async def answer(run: UUID, *, promote: bool) -> None:
    async with get_client() as client:
        await client.resume_flow_run(run, run_input={"promote": promote, "by": "Ann"})


@pytest.mark.parametrize("yes", [True, False])
def test_where_a_person_is_asked_the_rule_alone_promotes_nothing(
    yes: bool, prefect_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = Client(v1=0.5, v2=0.9)
    client.aliases = {"candidate": "2", "champion": "1"}
    compared: dict[str, object] = {"episodes": 9, "first": 0.5, "second": 0.9, "only_first": 0, "only_second": 4}
    compared |= {"low": 0.1, "high": 0.6, "p_value": 0.1, "with": f"{NAME}/1"}
    client.versions["2"].tags[f"compared.{NAME}.1"] = json.dumps(compared)
    monkeypatch.setattr(runs, "client", lambda _: client)
    monkeypatch.chdir(tmp_path)
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(notifications, "say", lambda *words: said.append(words))
    monkeypatch.setattr(approval, "pause_flow_run", functools.partial(approval.pause_flow_run, poll_interval=1))
    done: list[registry.Promotion] = []

    with temporary_settings({PREFECT_API_URL: prefect_server}):
        context = contextvars.copy_context()
        flow = threading.Thread(
            target=context.run, args=(lambda: done.append(flows.promote_model(NAME, ask=True)),), daemon=True
        )
        flow.start()
        run = until(lambda: asyncio.run(paused()), 60, "the run waits")
        assert client.aliases["champion"] == "1"
        asyncio.run(answer(run, promote=yes))
        flow.join(60)
    assert [each.decision.promote for each in done] == [yes]
    assert client.aliases["champion"] == ("2" if yes else "1")
    assert client.versions["2"].tags["promotion.answer"] == ("yes, by Ann" if yes else "no, by Ann")
    if not yes:  # nor does the rule, until a person is asked again
        assert "the answer was no, by Ann" in registry.promote_version(tmp_path, NAME, "2").decision.reason
        assert registry.promote_version(tmp_path, NAME, "2", dry_run=True, ask=True).decision.promote
        assert client.aliases["champion"] == "1"
    assert [event for event, *_ in said] == [notifications.ASKED, *([notifications.PROMOTED] if yes else [])]
    assert f"against {NAME}/1 on the same episodes: +0.400 [+0.100, +0.600] over 9 episodes" in said[0][3]


def test_a_training_that_may_not_promote_says_that_a_candidate_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1")
    monkeypatch.chdir(tmp_path)
    would = registry.Promotion(registry.Registered(NAME, "2", new=False), registry.Decision(True, "better"), "2")
    promote = Mock(return_value=would)
    monkeypatch.setattr(registry, "promote", promote)
    monkeypatch.setattr(flows, "get_run_logger", Mock())
    say = Mock()
    monkeypatch.setattr(notifications, "say", say)
    for ask, event in ((True, notifications.ASKED), (False, notifications.PROMOTED)):
        assert flows.promote.fn(ask=ask) == would
        assert promote.call_args.kwargs == {"dry_run": ask}
        assert say.call_args.args[:2] == (event, NAME)
    assert say.call_count == 2
