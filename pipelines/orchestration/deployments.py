"""Creates on a Prefect server what this project needs there; a second time it only brings things up to date.

`vldac deployments` does it. That is the work pool with its two queues, one of which takes as many runs at a time as
there are devices; the automation that marks a run as crashed when it no longer says that it is alive; those that tell
people of it, through the notification blocks that `VLDAC_NOTIFY` names; and the deployments of prefect.yaml. The
schedule of a deployment that is there already stays as people have set it on Prefect's pages. `PREFECT_API_URL` names
the server.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.core import errors
from pipelines.orchestration import notifications
from pipelines.stages import repro
from pipelines.tracking import runs

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import AutomationCore

POOL = "vldac"
#: Tag of every deployment in prefect.yaml, and so of every run of one.
TAG = "vldac"
_ALIVE = "prefect.flow-run.heartbeat"
_ENDED = ("Completed", "Failed", "Cancelled", "Crashed")
#: Runs that need a device wait here for each other; `default` is the queue that every pool has.
DEVICE_QUEUE, OTHER_QUEUE = "device", "default"
#: Seconds between two signs of life of a flow run, the shortest that Prefect takes.
HEARTBEAT = 30
#: Seconds of silence after which a run counts as crashed: two signs of life may be lost.
SILENCE = 100
AUTOMATION = "vldac: a run that fell silent has crashed"
#: Seconds after which a run counts as crashed that was taken by a worker and has never given a sign of life: a node may
#: have to fetch an image first. A worker that is started again looks for those of its own at once.
NEVER_ALIVE = 900
NEVER_ALIVE_AUTOMATION = "vldac: a run that never gave a sign of life has crashed"


def deploy(devices: int | None = None, *, schedules: bool = False) -> int:
    """Brings the server that PREFECT_API_URL names up to date with the current directory; returns the exit status.

    Args:
        devices: see `create`.
        schedules: see `create`.

    Raises:
        PipelineError: no server is named, it cannot be used, or `devices` is less than 1.
    """
    if devices is not None and devices < 1:
        raise errors.PipelineError(f"--devices {devices}: at least one run at a time is needed; give 1 or more")
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise errors.PipelineError("PREFECT_API_URL names no server; start one with `vldac serve`, or set it")
    for line in create(Path.cwd(), url, devices, schedules=schedules):
        print(line)
    limit = "its limit as it was" if devices is None else f"{devices} at a time"
    print(f"Prefect at {runs.without_credentials(url)}: work pool {POOL} ({limit}), deployments")
    return 0


def create(root: Path, url: str, devices: int | None, *, schedules: bool = False) -> list[str]:
    """Creates pool, queues, automations and deployments.

    Args:
        root: the project, with its prefect.yaml.
        url: of the server's API.
        devices: runs that may use a device at a time; None leaves the limit as it is, 1 where there is none yet.
        schedules: whether prefect.yaml's schedules take the place of those that the server has.

    Returns:
        A line for each notification block, of who is told, or of one that is not there, and for each deployment whose
        schedule on the server is another than that of prefect.yaml.

    Raises:
        PipelineError: the server cannot be used, or refuses, or VLDAC_NOTIFY cannot be read.
    """
    import httpx  # noqa: PLC0415  # these take seconds to import
    from prefect.exceptions import PrefectException  # noqa: PLC0415

    names = notifications.wanted()
    try:
        lines = asyncio.run(_create_pool(devices, names))
        definition = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))
        if not schedules:
            lines += asyncio.run(_keep_schedules(definition["deployments"]))
    except (httpx.HTTPError, PrefectException, OSError) as error:
        raise errors.PipelineError(
            f"Prefect at {runs.without_credentials(url)} cannot be used: {errors.explain(error)}; is it running, and "
            "is PREFECT_API_AUTH_STRING its password?"
        ) from None
    _deploy(root, definition)
    return lines


async def _create_pool(devices: int | None, blocks: Sequence[str] | None) -> list[str]:
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.actions import WorkPoolCreate  # noqa: PLC0415
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415
    from prefect.workers.process import ProcessWorker  # noqa: PLC0415

    async with get_client() as client:
        try:
            pool = await client.read_work_pool(POOL)
        except ObjectNotFound:
            pool = await client.create_work_pool(
                WorkPoolCreate(
                    name=POOL,
                    type=ProcessWorker.type,
                    description="Runs as processes of a worker that stands in a checkout of the project.",
                    base_job_template=ProcessWorker.get_default_base_job_template(),
                )
            )
        if pool.type != ProcessWorker.type:
            raise errors.PipelineError(
                f"the work pool {POOL!r} is of type {pool.type}, not process; rename or delete it"
            )
        try:
            queue = await client.read_work_queue_by_name(DEVICE_QUEUE, work_pool_name=POOL)
        except ObjectNotFound:
            queue = await client.create_work_queue(DEVICE_QUEUE, work_pool_name=POOL, concurrency_limit=devices or 1)
        if devices is not None and queue.concurrency_limit != devices:
            await client.update_work_queue(queue.id, concurrency_limit=devices)
        for automation in (crash_automation(), never_alive_automation()):
            await _create_automation(client, automation)
        return await notify(client, blocks)


async def notify(client: PrefectClient, names: Sequence[str] | None) -> list[str]:
    """Brings the automations that send messages up to date.

    Args:
        client: of the server.
        names: of the blocks to send to. None leaves everything as it is: whoever creates deployments from another
            shell must not silence a team; so do names of which none is there. With an empty list, nothing is sent any
            more.

    Returns:
        A line for each name, and one where messages have ended.
    """
    if names is None:
        return []
    found = {name: await notifications.find(client, name) for name in names}
    blocks = [block for block in found.values() if block is not None]
    for automation in notifications.automations(blocks) if blocks else ():
        await _create_automation(client, automation)
    ended = []
    for name in () if names else notifications.AUTOMATIONS:
        for old in await client.read_automations_by_name(name):
            await client.delete_automation(old.id)
            ended = [f"notifications have ended: {notifications.BLOCKS} is empty"]
    still = "" if blocks else "; until then, whoever was told before is told"  # a wrong name must silence nobody
    return ended + [
        f"notifications go to {name}"
        if block is not None
        else f"notifications do not go to {name}: Prefect has no such block; create it on its page Blocks, then type "
        f"`vldac deployments`{still}"
        for name, block in found.items()
    ]


async def _create_automation(client: PrefectClient, wanted: AutomationCore) -> None:
    known = await client.read_automations_by_name(wanted.name)
    for duplicate in known[1:]:
        await client.delete_automation(duplicate.id)
    if known:
        await client.update_automation(known[0].id, wanted)
    else:
        await client.create_automation(wanted)


def crash_automation() -> AutomationCore:
    """Marks a run as crashed that has sent signs of life and neither sends them any more nor has ended.

    This is how a worker, a machine or a run that was killed is noticed: none of them can say so itself. Only runs of
    this project: those of others send such signs as seldom as they like.
    """
    return _silence(AUTOMATION, {_ALIVE}, {_ALIVE, *_states(*_ENDED)}, SILENCE, related=f"prefect.tag.{TAG}")


def never_alive_automation() -> AutomationCore:
    """Marks a run as crashed that a worker took, and that has neither sent a sign of life since nor has ended.

    Only runs of this project's deployments: others need not send any.
    """
    waiting = ("Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Paused", "Suspended")
    expect = {_ALIVE, *_states(*_ENDED, *waiting)}
    return _silence(
        NEVER_ALIVE_AUTOMATION, _states("Pending", "Running"), expect, NEVER_ALIVE, related=f"prefect.tag.{TAG}"
    )


def _states(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


def _silence(name: str, after: set[str], expect: set[str], seconds: int, related: str | None = None) -> AutomationCore:
    """Marks a run as crashed where one of the events `after` has not been followed by one of `expect`.

    Args:
        name: of the automation.
        after: events.
        expect: events.
        seconds: in which they are expected.
        related: id of what the run must be of; None: all runs.
    """
    from prefect.client.schemas.objects import StateType  # noqa: PLC0415
    from prefect.events.actions import ChangeFlowRunState  # noqa: PLC0415
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture  # noqa: PLC0415
    from prefect.events.schemas.events import ResourceSpecification  # noqa: PLC0415

    return AutomationCore(
        name=name,
        description=f"No sign of life for {seconds} s: its process, its worker or its machine is gone.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification({"prefect.resource.id": [related]} if related else {}),
            for_each={"prefect.resource.id"},
            after=after,
            expect=expect,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message=f"No sign of life for {seconds} s. Run it again: training resumes from its last checkpoint.",
            )
        ],
    )


async def _keep_schedules(wanted: Sequence[dict[str, Any]]) -> list[str]:
    """Takes the schedules out of the deployments that the server has already; one without any leaves them alone.

    Args:
        wanted: deployments as prefect.yaml has them; changed.

    Returns:
        A line for each schedule that the server has otherwise.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName  # noqa: PLC0415

    scheduled = {one["name"]: one for one in wanted if one.get("schedules")}
    async with get_client() as client:
        by_name = DeploymentFilter(name=DeploymentFilterName(any_=list(scheduled)))
        found = [
            each
            for each in await client.read_deployments(deployment_filter=by_name)
            if each.entrypoint == scheduled[each.name]["entrypoint"]
        ]
    lines = []
    for each in found:
        ours = sorted(map(_in_words, scheduled[each.name].pop("schedules")))
        theirs = sorted(_in_words({**one.schedule.model_dump(), "active": one.active}) for one in each.schedules)
        if theirs != ours:
            lines.append(
                f"{each.name} keeps the schedule that it has on the server ({', '.join(theirs) or 'none'}); "
                f"`vldac deployments --schedules` brings back that of prefect.yaml ({', '.join(ours)})"
            )
    return lines


def _in_words(schedule: Mapping[str, Any]) -> str:
    """When a schedule starts runs, as people read it."""
    when = next((str(schedule[kind]) for kind in ("cron", "rrule", "interval") if kind in schedule), "?")
    paused = "" if schedule.get("active", True) else ", paused"
    return f"{when} {schedule.get('timezone') or 'UTC'}{paused}"


def _deploy(root: Path, definition: Mapping[str, Any]) -> None:
    """Runs `prefect deploy` on what prefect.yaml says, which asks nothing and needs no net."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "prefect.yaml")
        file.write_text(yaml.safe_dump(dict(definition), sort_keys=False), encoding="utf-8")
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        repro.call("prefect deploy", command, cwd=root, env=repro.environment())
