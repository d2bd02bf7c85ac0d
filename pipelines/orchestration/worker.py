"""A worker that first puts right what an earlier one has left behind, then becomes Prefect's own.

A worker that dies before a run of its own has given its first sign of life leaves that run pending or running for ever,
where it takes a place in the queue of the device. Runs of a schedule that were missed meanwhile are all still waiting,
and MLflow shows trainings as running whose processes are gone.
`python -m pipelines.orchestration.worker NAME [OPTION ...]` takes the place of
`prefect worker start --name NAME [OPTION ...]`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from pipelines.core.project import workspace
from pipelines.orchestration.deployments import POOL, SILENCE
from pipelines.tracking import runs
from pipelines.tracking.forwarder import reason

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, StateType

#: Label by which Prefect says which worker took a run.
LABEL = "prefect.worker.name"
_PAGE = 200


async def tidy(client: PrefectClient, name: str, now: datetime) -> list[str]:
    """Marks the leftovers of a worker as crashed, and takes missed runs of a schedule off the queue but for the newest.

    Args:
        client: of the server.
        name: of the worker, which does not run yet: whatever it took has ended with it.
        now: with a time zone.

    Returns:
        A line for each run whose state was changed.
    """
    from prefect.client.schemas.objects import StateType  # noqa: PLC0415  # these take seconds
    from prefect.states import Cancelled, Crashed  # noqa: PLC0415

    lines = []
    held = await _runs(client, [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    for run in held:
        if _left_behind(run, name, now):
            message = "Its worker ended before it did. Run it again: training resumes from its last checkpoint."
            await client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            lines.append(f"run {run.name} is marked as crashed: its worker ended before it did")
    for run in superseded(await _runs(client, [StateType.SCHEDULED]), now):
        message = "Missed; a later run of the same schedule is due as well."
        await client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
        lines.append(f"run {run.name} was missed and is skipped: a later one of its schedule is due as well")
    return lines


async def _runs(client: PrefectClient, states: Sequence[StateType]) -> list[FlowRun]:
    """All runs of the pool in these states."""
    from prefect.client.schemas import filters  # noqa: PLC0415

    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter(
                state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=list(states)))
            ),
            work_pool_filter=filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[POOL])),
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found


def _left_behind(run: FlowRun, name: str, now: datetime) -> bool:
    """Whether a run is this worker's, or was taken by one that did not live long enough to say so."""
    if (worker := run.labels.get(LABEL)) is not None:
        return worker == name
    since = run.state.timestamp if run.state is not None else now
    pending = run.state is not None and run.state.is_pending()
    return pending and now - since > timedelta(seconds=SILENCE)


def superseded(runs: Sequence[FlowRun], now: datetime) -> list[FlowRun]:
    """Scheduled runs that were due before another of the same schedule that is due too; what a person asked for stays.

    Args:
        runs: that have not started.
        now: with a time zone.
    """
    at = {run.id: run.expected_start_time for run in runs if run.auto_scheduled and run.expected_start_time is not None}
    due = [run for run in runs if run.id in at and at[run.id] <= now]
    newest: dict[object, datetime] = {}
    for run in due:
        newest[_schedule(run)] = max(at[run.id], newest.get(_schedule(run), at[run.id]))
    return [run for run in due if at[run.id] < newest[_schedule(run)]]


def _schedule(run: FlowRun) -> object:
    """What tells the schedules of a deployment apart."""
    return run.deployment_id, run.created_by.id if run.created_by is not None else None


def overtaken(run_id: UUID, now: datetime) -> bool:
    """Whether a run was started late by its schedule, and a later run of the same deployment is due as well."""
    return asyncio.run(_overtaken(run_id, now))


async def _overtaken(run_id: UUID, now: datetime) -> bool:
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.objects import StateType  # noqa: PLC0415

    async with get_client() as client:
        this = await client.read_flow_run(run_id)
        waiting = await _runs(client, [StateType.SCHEDULED]) if this.auto_scheduled else []
        return any(run.id == run_id for run in superseded([this, *waiting], now))


async def _tidy_own_server(name: str) -> list[str]:
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    async with get_client() as client:
        return await tidy(client, name, datetime.now(UTC))


def _tidy_mlflow() -> list[str]:
    root = Path.cwd()
    names = runs.mark_stopped(runs.client(root), workspace(root) / "runs")
    return [f"run {name} is marked as killed in MLflow: its process is gone" for name in names]


def main(arguments: Sequence[str]) -> None:
    """Tidies up, then becomes the worker."""
    name, *options = arguments
    for where, look in (("Prefect", lambda: asyncio.run(_tidy_own_server(name))), ("MLflow", _tidy_mlflow)):
        try:
            for line in look():
                print(line, flush=True)
        except Exception as error:  # noqa: BLE001  # a server that is away for now must not keep a worker from waiting for it
            print(f"what an earlier worker left in {where} was not looked at: {reason(error)}", flush=True)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--name", name, *options]
    os.execv(sys.executable, command)  # noqa: S606  # becomes the worker; no shell


if __name__ == "__main__":
    main(sys.argv[1:])
