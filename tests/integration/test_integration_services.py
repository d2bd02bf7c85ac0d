"""The services as their user has them: `vldac serve`, runs by schedule and by hand, what may go wrong."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.service_client import Served, clean_environment, until
from tests.integration.test_integration_make_run import clone

pytestmark = pytest.mark.slow

#: Processes of a stage, from the engine of its flow run to the training itself.
WORK = ("prefect.engine", "dvc repro", "pipelines.stages", "vldac.train", "spawn_main")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_config: Any) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("services") / "project"
    clone(root, tiny_config().model_dump(mode="json"))
    served = Served(root, clean_environment(root))
    yield served
    served.process.kill()
    served.process.wait()
    until(lambda: not served.pids("prefect", "mlflow", *WORK), 30, "everything that serve started is gone")


def lengthen(root: Path, total_steps: int) -> None:
    """Another, longer training: a run that a test can interrupt."""
    params = (root / "params.yaml").read_text()
    (line,) = [line for line in params.splitlines() if "total_steps:" in line]
    (root / "params.yaml").write_text(params.replace(line, f"  total_steps: {total_steps}"))


def registry(served: Served) -> Any:
    import mlflow  # noqa: PLC0415

    return mlflow.MlflowClient(f"http://127.0.0.1:{served.mlflow_port}")


def checkpoints(root: Path) -> set[Path]:
    return set(root.glob("runs/*/checkpoints/update-*"))


def training_run(served: Served) -> str:
    """Starts a training and waits until it has written checkpoints."""
    before = checkpoints(served.root)
    run = served.run("train-pipeline/train", steps=["environment", "base", "train"])
    until(lambda: len(checkpoints(served.root) - before) >= 2, 180, "checkpoints")
    return run


def test_a_scheduled_run_starts_by_itself_registers_and_promotes(served: Served) -> None:
    deployment = served.deployment("train-pipeline/train")
    steps = ["environment", "base", "train", "register", "evaluate", "promote"]  # benchmarks have a test of their own
    schedule = {"schedule": {"interval": 20}, "active": True, "parameters": {"steps": steps}}
    (made,) = served.api("POST", f"/deployments/{deployment}/schedules", [schedule])
    started = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}, "limit": 1}
    (run,) = until(lambda: served.api("POST", "/flow_runs/filter", started), 180, "a scheduled run starts")
    served.api("DELETE", f"/deployments/{deployment}/schedules/{made['id']}")
    assert run["auto_scheduled"]
    run = run["id"]
    assert served.ended(run) == "Completed", served.logs(run)

    shown = served.artifacts(run)
    assert {"comparison", "learning-curve", "filmstrip", "report", "registered-version"} <= shown.keys()
    assert len(json.loads(shown["comparison"]["data"])) == 3

    client = registry(served)
    (model,) = client.search_registered_models()
    version = client.get_model_version_by_alias(model.name, "candidate")
    assert version.tags["promotion.reason"].startswith("there was no champion; ")  # six episodes prove nothing
    client.set_registered_model_alias(model.name, "champion", version.version)  # as a person would, on the page
    lock = (served.root / "dvc.lock").read_text()
    assert version.tags["dvc.md5"] in lock
    assert json.loads(version.tags["params"])["train"]["total_steps"] == 64
    assert client.get_run(version.run_id).data.metrics["environment_steps"] == 64


def test_a_version_is_evaluated_compared_and_held_against_the_rule(served: Served) -> None:
    evaluation = served.run("evaluate-model/evaluate", version="1", episodes=3, benchmarks=["understanding"])
    rule = served.run("promote-model/promote", version="candidate", dry_run=True)
    night = served.run("nightly/nightly", episodes=3)
    wrong = served.run("evaluate-model/evaluate", version="99")
    assert served.ended(evaluation) == "Completed", served.logs(evaluation)
    (row, *_) = json.loads(served.artifacts(evaluation)["evaluation"]["data"])
    assert row["episodes"] == "3"
    assert "General understanding" in served.artifacts(evaluation)["benchmarks"]["data"]
    assert served.ended(rule) == "Completed", served.logs(rule)
    assert "it is the champion already" in served.artifacts(rule)["promotion"]["data"]
    assert served.ended(night) == "Completed", served.logs(night)
    (row,) = json.loads(served.artifacts(night)["champions"]["data"])
    assert row["version"] == "1"
    assert served.ended(wrong) == "Failed"
    choices = "has no version 99; choose from 1, @candidate, @champion"
    until(lambda: choices in served.logs(wrong), 30, "the last lines of its log have arrived")
    assert "Traceback" not in served.logs(wrong)


def test_a_cancelled_run_is_gone_and_the_next_goes_on_from_its_checkpoint(served: Served) -> None:
    lengthen(served.root, 160_000)
    run = training_run(served)
    served.api("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    # Ten seconds on a machine that has the time: GRACE, after which the kernel ends them, and the way to the worker.
    until(lambda: not served.pids(*WORK), 30, "its processes are gone")
    assert served.ended(run, 60) == "Cancelled"

    from vldac import checkpoint  # noqa: PLC0415

    newest = max(checkpoints(served.root), key=lambda path: path.stat().st_mtime)
    assert checkpoint.newest(newest.parent) == newest  # whole by its manifest

    run = served.run("train-pipeline/train", steps=["train"])
    until(lambda: f" from update {checkpoint.update_of(newest)} of " in served.logs(run), 120, "it resumes")
    served.api("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    assert served.ended(run, 60) == "Cancelled"


def test_a_killed_worker_takes_its_run_along_is_restarted_and_the_run_is_marked(served: Served) -> None:
    run = training_run(served)
    worker = served.service("worker start")
    os.kill(worker, signal.SIGKILL)
    until(lambda: not served.pids(*WORK), 30, "the run has gone with its worker")
    until(lambda: "worker died (SIGKILL); its log is " in served.said(), 10, "serve says so")
    until(lambda: "worker is started again" in served.said(), 30, "serve starts it again")
    assert served.service("worker start") != worker
    assert served.ended(run, 240) == "Crashed"
    # Whichever notices first: the worker that is started again, or the automation that misses a heartbeat.
    message = served.api("GET", f"/flow_runs/{run}")["state"]["message"]
    assert "Its worker ended before it did" in message or "No sign of life" in message


def test_without_its_servers_for_a_while_a_training_ends_as_if_they_had_been_there(served: Served) -> None:
    lengthen(served.root, 640)
    run = training_run(served)
    os.kill(served.service("prefect_server"), signal.SIGKILL)
    os.kill(served.service("mlflow server"), signal.SIGKILL)
    for name in ("prefect", "mlflow"):
        until(partial(_has_said, served, f"{name} is started again"), 30, f"serve starts {name} again")
    until((_newest_run(served.root) / "complete.json").exists, 240, "training's result")
    until(lambda: served.service("prefect_server") and served.state(run) in {"Completed"}, 120, "the run's own end")

    # Whatever could not be delivered by the end of the training arrives with the next step that needs the server.
    run = served.run("train-pipeline/train", steps=["register"])
    assert served.ended(run) == "Completed", served.logs(run)
    key = json.loads((served.root / "runs/train.json").read_text())["run_key"]
    client = registry(served)
    experiment = client.get_experiment_by_name("vldac")
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`vldac.run_key` = '{key}'")
    history = client.get_metric_history(found.info.run_id, "environment_steps")
    assert sorted(metric.value for metric in history) == [16 * update for update in range(1, 41)]


def _has_said(served: Served, words: str) -> bool:
    return words in served.said()


def _newest_run(root: Path) -> Path:
    return max(root.glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime).parent


def test_serve_stops_with_everything_it_started(served: Served) -> None:
    lengthen(served.root, 170_000)
    training_run(served)
    assert served.stop() == 0
    assert not served.pids("prefect", "mlflow", *WORK)
