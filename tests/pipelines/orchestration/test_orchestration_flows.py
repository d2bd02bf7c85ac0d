"""The flow and its commands, in a project whose models are fakes and whose Git, DVC, Prefect and MLflow are real."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import pytest
import yaml

from pipelines.commands import cli
from pipelines.core import errors, tables
from pipelines.core.errors import PipelineError
from pipelines.stages import repro
from pipelines.tracking import runs
from tests.integration.service_client import until
from tests.pipelines.conftest import REPOSITORY, call, dvc
from vldac.config import Config, parse

RUN = (sys.executable, "-m", "vldac", "run")
SUMMARY = {
    "env": "World-v0",
    "seed": 3,
    "random": {"success": 0.5, "success_ci": [0.4, 0.6], "return": 0.4, "steps_to_goal": 20.0, "episodes": 100},
    "base": {"success": 0.0, "success_ci": [0.0, 0.1], "return": -1.0, "steps_to_goal": None, "episodes": 100},
    "trained": {"success": 1.0, "success_ci": [0.9, 1.0], "return": 0.9, "steps_to_goal": 5.0, "episodes": 100},
}


def test_the_table_says_what_the_base_model_is() -> None:
    text = tables.text(SUMMARY, acts="acts at random")
    assert "acts at random" in text
    assert re.search(r"trained model +1\.000 \[0\.900, 1\.000\] +0\.900 +5\.0 +100", text)
    assert re.search(r"base model.* -1\.000 +- +100", text)  # it never reached a goal
    assert "acts at random" not in tables.markdown(SUMMARY, acts="")


def test_what_the_base_model_does_is_said_of_those_that_are_built_here() -> None:
    def acts(**sections: Any) -> str:
        return tables.base_acts(parse(sections).model_dump())

    expert = {"id": "WebShop-Small-v0", "expert_actions": 0.25}
    assert acts() == "acts at random"
    assert acts(model={"base": "owner/name"}) == ""
    assert tables.base_acts({"model": {"base": "tiny"}}) == "acts at random"  # of an older version
    assert acts(warm_start={"expert_actions": 0.25}).endswith("taught some actions of an expert")
    assert acts(warm_start={"mixture": [{"id": "Pictures-v0"}, expert]}).endswith("taught some actions of an expert")


@pytest.mark.parametrize(
    ("printed", "code", "message", "interrupted"),
    [
        (["Running stage 'x'", "error: no GL; install it", "ERROR: exited with 1"], 1, "no GL; install it", False),
        (["error: killed; again", "ERROR: failed to reproduce 'x': exited with 137"], 1, "killed; again", True),
        (
            ["ERROR: failed to reproduce 'x': failed to run: y, exited with -9"],
            1,
            "stage x was ended by a signal",
            True,
        ),
        (["Traceback", "KeyError: 'a'", "ERROR: failed to reproduce 'x': exited with 1"], 1, "KeyError: 'a'", False),
        (["ERROR: failed to reproduce 'x': Parameters 'a.b' are missing"], 255, "Parameters 'a.b' are missing", False),
        (["ERROR: 'dvc.yaml' validation failed."], 255, "stage x: 'dvc.yaml' validation failed.", False),
        (
            [
                "ERROR: unexpected error - [Errno 28] No space",
                "Having any troubles? Hit us up at https://dvc.org/support",
            ],
            255,
            "stage x: unexpected error - [Errno 28] No space",
            False,
        ),
        (
            ["'./dvc.lock' is invalid (possible merge conflicts).", "Mapping values", "  3 stages: {}"],
            255,
            "git checkout --ours dvc.lock",
            False,
        ),
        (["ERROR: configuration error", "  remote 'x' is missing"], 251, "stage x: configuration error", False),
        (
            ["ERROR: from a library", "KeyError: 'a'", "ERROR: failed to reproduce 'x': exited with 1"],
            1,
            "stage x: KeyError: 'a'",
            False,
        ),
        (["ERROR: /p is not a git repository"], 255, "git init && git add -A && git commit -m start", False),
        (["ERROR: '/p/models' is busy, it is being blocked by:"], 255, "another dvc command", False),
        ([], -9, "stage x was ended by a signal", True),
    ],
)
def test_a_failed_stage_is_one_line(printed: list[str], code: int, message: str, interrupted: bool) -> None:
    from pipelines.stages.repro import failure as explain_failure  # noqa: PLC0415

    failure = explain_failure("x", code, printed)
    assert message in str(failure)
    assert "\n" not in str(failure)
    assert failure.interrupted is interrupted


@pytest.mark.parametrize("changed", [True, False])
def test_a_run_looks_again_at_what_dvc_cannot_see_before_its_first_stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, changed: bool
) -> None:
    from pipelines.orchestration import flows  # noqa: PLC0415  # Prefect takes seconds

    (tmp_path / "params.yaml").write_text("seed: 5")
    monkeypatch.chdir(tmp_path)
    stages: list[tuple[str, bool]] = []
    looked: list[int] = []
    monkeypatch.setattr(flows, "stage", lambda name, *, force: stages.append((name, force)))

    def has_changed(_: Path, config: Config) -> bool:
        looked.append(config.seed)
        return changed

    monkeypatch.setattr(flows.code, "has_changed", has_changed)
    monkeypatch.setattr(flows, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(flows.artifacts, "run_report", lambda *_, **__: None)
    monkeypatch.setattr(flows, "register", lambda: None)

    flows._train(tmp_path, ["train", "environment"], force=False)
    assert stages == [("code", changed), ("environment", False), ("train", False)]
    assert looked == [5]
    flows._train(tmp_path, ["register"], force=False)  # which needs no stage
    assert len(stages) == 3


@pytest.mark.parametrize("answer", [True, False, ConnectionError("away"), None])
def test_a_nightly_run_that_a_later_one_overtakes_evaluates_nothing(
    answer: bool | Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.orchestration import flows  # noqa: PLC0415  # as above

    asked: list[UUID] = []
    run, log, champions = uuid4(), Mock(), Mock(return_value=[])

    def overtaken(flow_run: UUID, now: datetime) -> bool:
        asked.append(flow_run)
        assert now.tzinfo is UTC
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    monkeypatch.setattr(flows.processes, "die_with_parent", lambda: None)
    monkeypatch.setattr(flows, "get_run_logger", lambda: log)
    monkeypatch.setattr(flows.worker, "overtaken", overtaken)
    monkeypatch.setattr(flows.versions, "champions", champions)
    if answer is not None:  # it was started by a worker, and not by hand
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run))
    assert flows.nightly.fn() == []
    assert asked == ([run] if answer is not None else [])
    assert champions.called is (answer is not True)
    said = log.info.call_args.args[0]
    assert said.startswith("this run was missed and is skipped" if answer is True else "there is no @%s yet")


def test_what_dvc_says_of_stages_that_are_up_to_date_is_not_passed_on() -> None:
    for name in ("code", "benchmark-data", "benchmark@vsi_bench"):
        assert repro._CHATTER.match(f"Stage '{name}' didn't change, skipping")


def test_a_port_in_use_is_said_with_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.call(["mlflow", "--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(rf"error: port {port} cannot be used \(.+\); .*: vldac mlflow --port {port + 1}\n", said)


def test_a_full_disk_is_said_with_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise OSError(28, "No space left on device", "metrics/train.json")

    assert errors.run(main) == 1
    assert capsys.readouterr().err == (
        "error: metrics/train.json: No space left on device; free some space and run the same command again\n"
    )


def test_missing_system_libraries_are_named_where_they_cannot_be_installed(tmp_path: Path) -> None:
    for name, script in (
        ("ldconfig", 'echo "  libGL.so.1 (libc6,x86-64) => /lib/libGL.so.1"'),
        ("id", "echo 1000"),
        ("sudo", "exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    printed = call(str(REPOSITORY / "scripts/system-libraries"), code=1, env={"PATH": path})
    assert printed.startswith("error: system packages are missing: libegl1 libfreetype6 libglu1-mesa (")


@pytest.mark.slow
def test_the_whole_run_then_a_cached_one(project: Path) -> None:
    printed = call(*RUN)
    assert printed.startswith("GymCards-NumberLine-v0, seed 0, tiny: starting Prefect\n")
    assert "stage 3 of 7: train\n" in printed
    assert "benchmark 4 of 4: " in printed
    assert re.search(r"^trained model +0\.970", printed, re.MULTILINE)
    assert "version 1 @candidate @champion" in printed
    assert "vldac mlflow" in printed
    assert len(re.findall(r"^update 10$", printed, re.MULTILINE)) == 1  # on the terminal once
    for path in ("data/environment/manifest.json", "plots/learning_curve.png", "plots/filmstrip.png", "evaluations"):
        assert (project / path).exists()

    printed = call(*RUN)
    assert "update" not in printed
    assert len(re.findall(r": up to date$", printed, re.MULTILINE)) == 11  # ten stages and `code`
    assert "version 1 holds these weights" in printed

    with closing(sqlite3.connect(project / ".local/prefect/prefect.db")) as history:
        shown = history.execute("SELECT name, tags FROM flow_run").fetchall()
    assert {name for name, _ in shown} == {"GymCards-NumberLine-v0 vldac seed 0 v1"}
    assert all({"vldac", "train", "command-line"} <= {*json.loads(tags)} for _, tags in shown)

    call("git", "add", "-A")
    (project / "README.md").write_text("about")
    assert dvc("status").strip() == "Data and pipelines are up to date."


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_a_killed_training_is_resumed_in_the_same_mlflow_run(project: Path) -> None:
    (project / "die_at").write_text("5")
    printed = call(*RUN, "--steps", "environment", "base", "train", "register")
    assert "starting at update 4" in printed

    client = runs.client(project)
    experiment = client.get_experiment_by_name(runs.EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss/policy")
    assert sorted(metric.step for metric in history) == [32 * update for update in range(1, 11)]
    train = json.loads((project / "runs/train.json").read_text())
    assert train["mlflow_run_id"] == run.info.run_id


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_without_its_servers_everything_is_trained_and_the_metrics_arrive_later(project: Path) -> None:
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    steps = ("--steps", "environment", "base", "train", "register", "evaluate", "promote")
    printed = call(*RUN, *steps, code=1, env=away)
    assert re.search(r"^trained model +0\.970", printed, re.MULTILINE)
    assert "is away: it cannot be reached. Training continues" in printed
    assert printed.rstrip().splitlines()[-1].startswith("error: MLflow at http://127.0.0.1:1 cannot be used")

    printed = call(*RUN, *steps)
    assert "update" not in printed
    assert "version 1 @candidate @champion" in printed
    client = runs.client(project)
    run = runs.find_run(client, json.loads((project / "runs/train.json").read_text())["run_key"])
    assert run is not None
    assert len(client.get_metric_history(run.info.run_id, "loss/policy")) == 10


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_within_seconds_with_one_line(project: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches every process of the terminal's group at once, the run's own Prefect server among them."""
    printed = project.parent / "printed"
    env = {**os.environ, "FAKE_UPDATE_SECONDS": "2", "PYTHONUNBUFFERED": "1"}
    command = [*RUN, "--steps", "environment", "base", "train"]
    with printed.open("w") as out:
        run = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    until(lambda: "update 2" in printed.read_text(), 180, "the training works")
    said, asked = printed.read_text(), time.monotonic()
    os.killpg(run.pid, number)
    assert run.wait(60) == 128 + number
    assert time.monotonic() - asked < 30  # seconds where the machine has the time
    last = printed.read_text().removeprefix(said).splitlines()
    cause = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    assert last[-1] == f"error: {cause}; the same command resumes where this one stopped"
    assert not [line for line in last[:-1] if not line.startswith("update")], last


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_the_error_of_a_stage_is_the_last_line(project: Path) -> None:
    (project / "fail").write_text("no g++ for the JIT op; install g++")
    printed = call(*RUN, code=1)
    assert printed.rstrip().splitlines()[-1] == "error: no g++ for the JIT op; install g++"
    assert "Traceback" not in printed

    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("gamma:", "gama:"))
    printed = call(*RUN, code=1)
    assert printed == "error: params.yaml: unknown key 'train.gama'; did you mean 'train.gamma'?\n"


@pytest.mark.slow
def test_a_forced_training_starts_anew_and_gives_the_same_weights(project: Path) -> None:
    dvc("repro", "train")
    first = json.loads((project / "runs/train.json").read_text())
    weights = (project / "models/policy/adapter_model.safetensors").read_bytes()
    printed = dvc("repro", "--single-item", "--force", "train")
    assert "starting at update 0" in printed
    second = json.loads((project / "runs/train.json").read_text())
    assert second["fingerprint"] == first["fingerprint"]
    assert second["run_key"] != first["run_key"]
    assert (project / "models/policy/adapter_model.safetensors").read_bytes() == weights


def test_nothing_is_registered_that_other_parameters_have_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.orchestration import flows  # noqa: PLC0415  # Prefect takes seconds, and reads its settings then

    ran: list[str] = []
    monkeypatch.setattr(flows, "stage", lambda name, force: ran.append(name))
    monkeypatch.setattr(flows.base_files, "link", lambda *_: None)
    monkeypatch.setattr(flows.code, "has_changed", lambda *_: False)
    made = parse({})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(made.model_dump(mode="json")))
    wanted: Any = (["register"], ["evaluate", "promote"], ["promote"])
    for steps in wanted:
        flows._begin(tmp_path, made, steps)
        with pytest.raises(
            PipelineError, match=r"params.yaml has changed since models/policy was made; run the stages"
        ):
            flows._begin(tmp_path, parse({"seed": 5}), steps)
    assert ran == ["code", "environment"]
    more = parse({"evaluate": {"episodes": 7}})
    flows._begin(tmp_path, more, ["evaluate", "promote"])  # which evaluates again
    with pytest.raises(PipelineError, match="has changed"):
        flows._begin(tmp_path, more, ["promote"])
    flows._begin(tmp_path, parse({"seed": 5}), ["train", "register"])
