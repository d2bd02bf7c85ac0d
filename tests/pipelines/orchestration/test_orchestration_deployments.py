"""What prefect.yaml and `pipelines.orchestration.deployments` promise."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import EventTrigger
from prefect.exceptions import ParameterTypeError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema

from pipelines.commands import cli
from pipelines.orchestration import deployments, flows
from tests.pipelines.conftest import REPOSITORY

FLOWS = (
    *(flows.train_pipeline, flows.evaluate_model, flows.compare_models, flows.promote_model),
    *(flows.nightly, flows.study),
)
PREFECT_YAML = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())


def deployment(name: str) -> dict[str, Any]:
    (found,) = [each for each in PREFECT_YAML["deployments"] if each["name"] == name]
    return dict(found)


def test_every_flow_has_one_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    loaded: list[Flow[Any, Any]] = [
        load_flow_from_entrypoint(each["entrypoint"]) for each in PREFECT_YAML["deployments"]
    ]
    assert sorted(flow.name for flow in loaded) == sorted(flow.name for flow in FLOWS)
    assert all(each["tags"] and each["description"] for each in PREFECT_YAML["deployments"])


def test_what_needs_a_device_waits_for_it_and_nothing_is_fetched() -> None:
    queues = {each["name"]: each["work_pool"]["work_queue_name"] for each in PREFECT_YAML["deployments"]}
    device, other = deployments.DEVICE_QUEUE, deployments.OTHER_QUEUE
    assert queues.pop("promote") == other
    assert set(queues.values()) == {device}
    assert {each["work_pool"]["name"] for each in PREFECT_YAML["deployments"]} == {deployments.POOL}
    (step,) = PREFECT_YAML["pull"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $VLDAC_ROOT }}"}}
    assert not any("pull" in each or "build" in each for each in PREFECT_YAML["deployments"])


def test_only_the_nightly_comparison_starts_by_itself() -> None:
    assert [each["name"] for each in PREFECT_YAML["deployments"] if each.get("schedules")] == ["nightly"]
    (schedule,) = deployment("nightly")["schedules"]
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_the_form_of_a_flow_has_a_plain_field_a_default_and_a_word_for_each_parameter(flow: Flow[..., Any]) -> None:
    schema = parameter_schema(flow).model_dump()
    assert schema["required"] == []
    for name, field in schema["properties"].items():
        assert field["description"], name
        assert "default" in field, name
        assert field["type"] in {"string", "integer", "boolean", "array"}, name


@pytest.mark.parametrize(
    ("flow", "wrong"),
    [
        (flows.train_pipeline, {"steps": ["trian"]}),
        (flows.train_pipeline, {"steps": []}),
        (flows.evaluate_model, {"episodes": -1}),
        (flows.evaluate_model, {"model": "somebody/else"}),
        (flows.evaluate_model, {"params_file": "conf/x.yaml; rm -r ."}),
        (flows.promote_model, {"version": "0"}),
        (flows.promote_model, {"version": "../1"}),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(flow: Flow[..., Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterTypeError, match=f"- {next(iter(wrong))}"):
        flow.validate_parameters(wrong | _others(flow, wrong))


def _others(flow: Flow[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    properties = parameter_schema(flow).model_dump()["properties"]
    return {name: field["default"] for name, field in properties.items() if name not in given}


def test_silence_after_a_sign_of_life_is_a_crash_unless_the_run_has_ended() -> None:
    trigger = deployments.crash_automation().trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.after == {"prefect.flow-run.heartbeat"}
    assert trigger.expect == trigger.after | {
        f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")
    }
    assert trigger.for_each == {"prefect.resource.id"}
    assert trigger.within == timedelta(seconds=deployments.SILENCE)
    assert deployments.SILENCE > 3 * deployments.HEARTBEAT  # two may be lost


def test_a_run_that_a_worker_took_and_that_never_lives_is_a_crash() -> None:
    trigger = deployments.never_alive_automation().trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.after == {"prefect.flow-run.Pending", "prefect.flow-run.Running"}
    assert {"prefect.flow-run.heartbeat", "prefect.flow-run.Crashed", "prefect.flow-run.Scheduled"} <= trigger.expect
    assert not trigger.expect & trigger.after
    assert trigger.within == timedelta(seconds=deployments.NEVER_ALIVE)
    # Heartbeats carry the tags of their run. Flows of other people need not send any, and are left alone.
    assert trigger.model_dump()["match_related"] == {"prefect.resource.id": [f"prefect.tag.{deployments.TAG}"]}
    assert all(deployments.TAG in each["tags"] for each in PREFECT_YAML["deployments"])


def test_without_a_server_it_says_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.call(["deployments"]) == 1
    assert capsys.readouterr().err.startswith("error: PREFECT_API_URL names no server; start one with `vldac serve`")
    assert cli.call(["deployments", "--devices", "0"]) == 1
    assert "--devices 0" in capsys.readouterr().err


@pytest.mark.slow
def test_a_schedule_that_people_have_changed_stays_until_they_want_that_of_the_file(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.chdir(REPOSITORY)

    async def schedules(change: dict[str, Any] | None = None) -> list[tuple[str, bool]]:
        async with get_client() as client:
            nightly = await client.read_deployment_by_name("nightly/nightly")
            (one,) = nightly.schedules
            if change is not None:
                await client.update_deployment_schedule(nightly.id, one.id, **change)
            assert isinstance(one.schedule, CronSchedule)
            return [(one.schedule.cron, one.active)]

    def create(**options: Any) -> list[str]:
        return deployments.create(REPOSITORY, prefect_server, None, **options)

    with temporary_settings({PREFECT_API_URL: prefect_server}):
        assert create() == []
        assert asyncio.run(schedules({"active": False, "schedule": CronSchedule(cron="30 4 * * *")}))
        (line,) = create()
        assert line.startswith("nightly keeps the schedule that it has on the server (30 4 * * * UTC, paused)")
        assert asyncio.run(schedules()) == [("30 4 * * *", False)]
        assert create(schedules=True) == []
        assert asyncio.run(schedules()) == [("0 3 * * *", True)]
