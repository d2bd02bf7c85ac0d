"""What an earlier worker left behind is put right on a real Prefect server, and nothing else is touched."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending, Running, State

from pipelines.commands import serve
from pipelines.orchestration import worker
from pipelines.orchestration.deployments import POOL, SILENCE
from tests.pipelines.commands.test_commands_serve import plan

NOW = datetime.now(UTC)


@flow(name="nothing")
def nothing() -> None:
    """Is never run."""


async def deployment(client: PrefectClient, name: str, schedule: str | None = None) -> UUID:
    with contextlib.suppress(ObjectAlreadyExists):
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    cron = [DeploymentScheduleCreate(schedule=CronSchedule(cron=schedule, timezone="UTC"))] if schedule else None
    flow_id = await client.create_flow(nothing)
    return await client.create_deployment(flow_id, name, work_pool_name=POOL, schedules=cron, paused=False)


async def started(client: PrefectClient, of: UUID, state: State[Any], by: str | None) -> UUID:
    run = await client.create_flow_run_from_deployment(of, state=state)
    if by is not None:
        await client.update_flow_run_labels(run.id, {worker.LABEL: by})
    return run.id


async def state_of(client: PrefectClient, run: UUID) -> str:
    state = (await client.read_flow_run(run)).state
    assert state is not None
    return str(state.name)


def test_what_a_dead_worker_took_is_crashed_and_what_others_took_is_not(prefect_server: str) -> None:
    async def check() -> None:
        async with get_client() as client:
            of = await deployment(client, f"leftovers-{uuid4()}")
            states: tuple[State[Any], ...] = (Pending(), Running())
            mine = [await started(client, of, state, "me") for state in states]
            others = [await started(client, of, state, "another") for state in states]
            taken = await started(client, of, Pending(), None)
            asked = (await client.create_flow_run_from_deployment(of)).id
            lines = await worker.tidy(client, "me", datetime.now(UTC))
            assert len(lines) == 2, lines
            assert [await state_of(client, run) for run in mine] == ["Crashed", "Crashed"]
            assert [await state_of(client, run) for run in (*others, taken)] == ["Pending", "Running", "Pending"]
            # One that no worker has put its name to is left alone as long as a worker may be about to.
            await worker.tidy(client, "me", datetime.now(UTC) + timedelta(seconds=SILENCE + 1))
            assert await state_of(client, taken) == "Crashed"
            assert [await state_of(client, run) for run in (*others, asked)] == ["Pending", "Running", "Scheduled"]

    with temporary_settings({PREFECT_API_URL: prefect_server}):
        asyncio.run(check())


def test_of_missed_nights_the_newest_is_run_and_what_a_person_asked_for_stays(prefect_server: str) -> None:
    async def check() -> None:
        async with get_client() as client:
            of = await deployment(client, f"nights-{uuid4()}", "0 3 * * *")
            start, end = datetime.now(UTC) - timedelta(days=5), datetime.now(UTC)
            body = {"start_time": start.isoformat(), "end_time": end.isoformat(), "min_runs": 5, "max_runs": 50}
            (await client._client.post(f"/deployments/{of}/schedule", json=body)).raise_for_status()
            asked = (await client.create_flow_run_from_deployment(of)).id
            runs = sorted(
                (run for run in await client.read_flow_runs(limit=200) if run.deployment_id == of and run.id != asked),
                key=lambda run: run.expected_start_time or NOW,
            )
            missed = [run for run in runs if run.expected_start_time is not None and run.expected_start_time < end]
            assert len(missed) == 5
            assert await worker._overtaken(missed[0].id, datetime.now(UTC))
            assert not await worker._overtaken(missed[-1].id, datetime.now(UTC))
            assert not await worker._overtaken(asked, datetime.now(UTC))
            await worker.tidy(client, "me", datetime.now(UTC))
            states = [await state_of(client, run.id) for run in missed]
            assert states[:-1] == ["Cancelled"] * 4
            assert states[-1] in {"Scheduled", "Late"}
            assert await state_of(client, asked) in {"Scheduled", "Late"}
            assert {await state_of(client, run.id) for run in runs if run not in missed} <= {"Scheduled"}

    with temporary_settings({PREFECT_API_URL: prefect_server}):
        asyncio.run(check())


def test_each_checkout_has_a_worker_of_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = serve.worker_name(plan())
    assert here == serve.worker_name(plan())
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert serve.worker_name(plan()) != here
