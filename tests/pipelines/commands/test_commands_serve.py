"""A service is started again when it dies, not for ever, and nothing that it started outlives it."""

from __future__ import annotations

import configparser
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from pipelines.commands import cli, serve
from pipelines.core import errors
from pipelines.orchestration import services
from pipelines.orchestration.services import Service
from tests.integration.service_client import free_port, until
from tests.processes import SLEEPER, alive, gone

PASSWORDS = ("PREFECT_SERVER_API_AUTH_STRING", "MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD")


def service(tmp_path: Path, code: str, **how: object) -> Service:
    made = Service("thing", [sys.executable, "-c", code], cwd=tmp_path, env=dict(os.environ), logs=tmp_path, **how)  # type: ignore[arg-type]
    made.start()
    return made


def printed_pids(made: Service) -> list[int]:
    return until(lambda: [int(pid) for pid in made.log.read_text().split()], 30, "the child prints its pids")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "FIRST_DELAY", 0.0)


@pytest.mark.usefixtures("quick")
def test_what_dies_is_named_with_its_log_and_started_again(tmp_path: Path) -> None:
    made, said = service(tmp_path, SLEEPER), list[str]()
    first = printed_pids(made)
    os.kill(first[0], signal.SIGKILL)

    def started_again() -> bool:
        made.look_after(said.append)
        return len(said) == 2

    until(started_again, 30, "it is started again")
    assert said[0] == f"thing died (SIGKILL); its log is {tmp_path / 'thing.log'}; starting it again in 0 s"
    assert said[1] == "thing is started again"
    assert gone(*first)  # its own child as well
    assert made.pid is not None
    assert made.pid != first[0]
    made.stop()
    assert made.pid is None


@pytest.mark.usefixtures("quick")
def test_what_dies_again_and_again_is_given_up_with_its_last_line(tmp_path: Path) -> None:
    made, said = service(tmp_path, "print('cannot bind'); raise SystemExit(3)"), list[str]()
    with pytest.raises(
        errors.PipelineError, match=r"thing died \(exit code 3\).*it died 5 times in a row: cannot bind"
    ):
        until(lambda: made.look_after(said.append), 60, "it is given up")
    assert said.count("thing is started again") == services.MAX_DEATHS - 1


def test_stopping_ends_the_children_of_a_service_too(tmp_path: Path) -> None:
    made = service(tmp_path, SLEEPER)
    pids = printed_pids(made)
    assert all(map(alive, pids))
    made.stop()
    assert gone(*pids)


def test_a_session_that_a_service_started_is_asked_first(tmp_path: Path) -> None:
    child = (
        "import pathlib, signal, sys, time\n"
        "def bye(*_): pathlib.Path('bye').touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye); pathlib.Path('up').touch(); time.sleep(300)"
    )
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True); time.sleep(300)"
    )
    made = service(tmp_path, parent, children_first=True)
    until((tmp_path / "up").exists, 30, "the session is up")
    made.stop()
    assert (tmp_path / "bye").exists()


def test_a_service_that_ends_as_it_starts_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    made = service(tmp_path, "print('no such database'); raise SystemExit(1)", health="http://127.0.0.1:1/health")
    with pytest.raises(errors.PipelineError, match="thing ended as it started: no such database; its log is"):
        made.wait_until_healthy(60, threading.Event())
    made.stop()


def test_waiting_for_a_service_ends_when_asked_to_stop(tmp_path: Path) -> None:
    made, stop = service(tmp_path, SLEEPER, health="http://127.0.0.1:1/health"), threading.Event()
    stop.set()
    made.wait_until_healthy(1e9, stop)
    assert not made.healthy()
    made.stop()


def test_the_log_of_the_time_before_is_kept(tmp_path: Path) -> None:
    (tmp_path / "thing.log").write_text("before\n")
    made = service(tmp_path, SLEEPER)
    printed_pids(made)
    made.stop()
    assert (tmp_path / "thing.log.1").read_text() == "before\n"


def plan(host: str = "127.0.0.1", *, devices: int = 1, servers: bool = True) -> serve.Plan:
    return serve.Plan(
        root=Path.cwd(), host=host, prefect_port=free_port(), mlflow_port=free_port(), devices=devices, servers=servers
    )


def test_other_machines_are_only_let_in_with_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    serve.check(plan())
    for name in PASSWORDS[:2]:
        monkeypatch.setenv(name, "a:b")
    with pytest.raises(
        errors.PipelineError, match=r"MLFLOW_AUTH_ADMIN_PASSWORD is not set; set it, or leave --host out"
    ):
        serve.check(plan("0.0.0.0"))
    monkeypatch.setenv(PASSWORDS[2], "c")
    serve.check(plan("0.0.0.0"))


def test_servers_are_not_started_beside_others_nor_a_worker_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.PipelineError, match="PREFECT_API_URL names no server"):
        serve.check(plan(servers=False))
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:4200/api")
    with pytest.raises(errors.PipelineError, match="unset it, or give --only worker"):
        serve.check(plan())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    serve.check(plan(servers=False))


def test_a_taken_port_and_no_device_are_said_with_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(errors.PipelineError, match="--devices 0"):
        serve.check(plan(devices=0))
    import socket  # noqa: PLC0415

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        arguments = ["--prefect-port", str(port)]
        assert cli.call(["serve", *arguments]) == 1
    assert capsys.readouterr().err.rstrip().endswith(f"choose another: --prefect-port {port + 1}")


def test_passwords_reach_the_clients_and_no_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in zip(PASSWORDS, ("me:secret-1", "me", "secret-2"), strict=True):
        monkeypatch.setenv(name, value)
    served = plan()
    env = serve.client_environment(served)
    assert env["PREFECT_API_AUTH_STRING"] == "me:secret-1"
    assert (env["MLFLOW_TRACKING_USERNAME"], env["MLFLOW_TRACKING_PASSWORD"]) == ("me", "secret-2")
    for made in (serve.prefect_server(served), serve.worker(served)):
        assert "secret" not in " ".join(made.command)
    assert env["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_mlflow_reads_its_settings_in_a_project_whose_path_has_a_percent_sign(tmp_path: Path) -> None:
    root = tmp_path / "50%20"
    parser = configparser.ConfigParser()  # which is what MLflow reads them with
    parser.read(serve._mlflow_auth_config(root))
    assert parser["mlflow"]["database_uri"] == f"sqlite:///{root}/.local/mlflow_auth.db"
