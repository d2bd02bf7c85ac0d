"""`vldac serve`: Prefect server, MLflow server and a worker on this machine, until Ctrl-C.

Creates work pool, limits and deployments, prints the addresses, starts again what dies, and stops everything together.
Both servers listen on this machine only. With `--host`, both need a password, given by the environment:
PREFECT_SERVER_API_AUTH_STRING=user:password, MLFLOW_AUTH_ADMIN_USERNAME and MLFLOW_AUTH_ADMIN_PASSWORD.
`--only worker` starts a worker of servers elsewhere, which PREFECT_API_URL and MLFLOW_TRACKING_URI name.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pipelines.commands import pages
from pipelines.commands.run import environment
from pipelines.core import errors, network
from pipelines.core.project import home
from pipelines.orchestration import deployments
from pipelines.orchestration.services import Service
from pipelines.stages import repro
from pipelines.tracking import runs

#: Seconds that a server may take until its first answer; the very first start makes its database.
_START_SECONDS = 180.0
_LOOK_SECONDS = 0.5
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Plan:
    """What is to be served.

    Attributes:
        root: the project, in which the worker stands.
        host: address on which the servers listen.
        prefect_port: of the Prefect server.
        mlflow_port: of the MLflow server.
        devices: runs that may use a device at a time.
        servers: whether the two servers are started here.
        worker: whether a worker is started here.
        metrics_port: of the metrics of running trainings; None serves none.
    """

    root: Path
    host: str
    prefect_port: int
    mlflow_port: int
    devices: int
    servers: bool = True
    worker: bool = True
    metrics_port: int | None = None

    @property
    def logs(self) -> Path:
        """Where each service has its log."""
        return home(self.root) / "logs"

    @property
    def reached_at(self) -> str:
        """The host name under which this machine's own clients reach the servers."""
        return "127.0.0.1" if self.host in {"0.0.0.0", "::", *_LOOPBACK} else self.host  # noqa: S104  # compared only

    @property
    def prefect_url(self) -> str:
        """Address of the Prefect pages."""
        return f"http://{self.reached_at}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        """Address of the MLflow pages."""
        return f"http://{self.reached_at}:{self.mlflow_port}"


def check(plan: Plan) -> None:
    """Everything that can be known to fail before anything is started.

    Raises:
        PipelineError: a port is taken, or passwords are missing.
    """
    if plan.devices < 1:
        raise errors.PipelineError(f"--devices {plan.devices}: at least one run at a time is needed; give 1 or more")
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        elsewhere = os.environ.get(name, "").startswith("http")
        if plan.servers and elsewhere:
            raise errors.PipelineError(f"{name} names a server elsewhere; unset it, or give --only worker")
        if not plan.servers and not elsewhere:
            raise errors.PipelineError(f"--only worker, but {name} names no server; set it")
    if plan.metrics_port is not None:
        pages.free(plan.metrics_port, plan.host, f"--metrics-port {plan.metrics_port + 1}")
    if not plan.servers:
        return
    network.require_loopback()
    for name, port in (("prefect", plan.prefect_port), ("mlflow", plan.mlflow_port)):
        pages.free(port, plan.host, f"--{name}-port {port + 1}")
    if plan.host not in _LOOPBACK:
        wanted = ("PREFECT_SERVER_API_AUTH_STRING", "MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD")
        if missing := [name for name in wanted if not os.environ.get(name)]:
            raise errors.PipelineError(
                f"--host {plan.host} lets other machines in, but {', '.join(missing)} is not set; set it, or leave "
                "--host out"
            )


def serve(plan: Plan) -> None:
    """Runs everything until a signal asks to stop.

    Raises:
        PipelineError: a service does not start, or dies again and again.
    """
    running: list[Service] = []
    with _stop_requested() as stop:
        try:
            for service in (prefect_server(plan), mlflow_server(plan)) if plan.servers else ():
                service.start()
                running.append(service)
            for service in running:
                service.wait_until_healthy(_START_SECONDS, stop)
            if not stop.is_set():
                _create_deployments(plan)
            if plan.worker and not stop.is_set():
                running.append(worker(plan))
                running[-1].start()
            if plan.metrics_port is not None and not stop.is_set():
                running.append(metrics(plan))
                running[-1].start()
            print(ready(plan), flush=True)
            while not stop.wait(_LOOK_SECONDS):
                for service in running:
                    service.look_after(lambda line: print(line, flush=True))
            print("stopping", flush=True)
        finally:
            for service in reversed(running):  # the worker first: its runs say goodbye to both servers
                service.stop()


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, whatever is being waited for."""
    event = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if event.is_set():  # asked twice: it is not worth waiting for
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def client_environment(plan: Plan) -> dict[str, str]:
    """The environment of whatever talks to the two servers, on this machine."""
    env = {**environment(plan.root), **repro.environment()}
    env.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", None)  # a log of its own, not a person's terminal
    if plan.servers:
        env |= {"PREFECT_API_URL": f"{plan.prefect_url}/api", "MLFLOW_TRACKING_URI": plan.mlflow_url}
    if password := env.get("PREFECT_SERVER_API_AUTH_STRING"):
        env.setdefault("PREFECT_API_AUTH_STRING", password)
    if user := env.get("MLFLOW_AUTH_ADMIN_USERNAME"):
        env.setdefault("MLFLOW_TRACKING_USERNAME", user)
        env.setdefault("MLFLOW_TRACKING_PASSWORD", env.get("MLFLOW_AUTH_ADMIN_PASSWORD", ""))
    return env


def prefect_server(plan: Plan) -> Service:
    """The Prefect server, on the history that `make run` writes to as well."""
    env = client_environment(plan)
    # The page asks port 4200 for its data unless it is told otherwise; relative, it holds for every name of this host.
    env.setdefault("PREFECT_UI_API_URL", "/api")
    command = ["pipelines.orchestration.prefect_server", "--host", plan.host, "--port", str(plan.prefect_port)]
    return _service(plan, "prefect", command, env, health=f"{plan.prefect_url}/api/health")


def mlflow_server(plan: Plan) -> Service:
    """The MLflow server, on the database that `make run` writes to as well."""
    with runs.reachable(plan.root):
        runs.client(plan.root)  # makes the database before the server's several processes would all try to
    env = client_environment(plan)
    env.pop("MLFLOW_TRACKING_URI")
    # By environment: a database's password must not stand in the list of processes.
    env.setdefault("MLFLOW_BACKEND_STORE_URI", runs.tracking_uri(plan.root))
    env.setdefault("MLFLOW_DEFAULT_ARTIFACT_ROOT", (home(plan.root) / "mlartifacts").as_uri())
    command = ["mlflow", "server", "--host", plan.host, "--port", str(plan.mlflow_port), "--workers", "1"]
    if env.get("MLFLOW_AUTH_ADMIN_USERNAME"):
        env.setdefault("MLFLOW_AUTH_CONFIG_PATH", str(_mlflow_auth_config(plan.root)))
        env.setdefault("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32))
        command += ["--app-name", "basic-auth"]
    return _service(plan, "mlflow", command, env, health=f"{plan.mlflow_url}/health")


def _mlflow_auth_config(root: Path) -> Path:
    """Settings of MLflow's basic authentication; the administrator's password comes from the environment alone."""
    path = home(root) / "mlflow_auth.ini"
    path.parent.mkdir(parents=True, exist_ok=True)
    database = str(home(root) / "mlflow_auth.db").replace("%", "%%")  # a mark of this format
    path.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{database}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    return path


def worker_name(plan: Plan) -> str:
    """Of the worker of this checkout on this machine, where each checkout may have one."""
    where = hashlib.sha256(str(plan.root.resolve()).encode()).hexdigest()
    return f"{socket.gethostname()}-{where[:8]}"


def worker(plan: Plan) -> Service:
    """A worker that stands in this checkout."""
    env = client_environment(plan)
    env |= {
        "VLDAC_ROOT": str(plan.root),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(deployments.HEARTBEAT),
        "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",  # what is installed here is what runs
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",  # of runs that have not started yet
        "PREFECT_WORKER_QUERY_SECONDS": "5",
    }
    command = ["pipelines.orchestration.worker", worker_name(plan), "--pool", deployments.POOL, "--type", "process"]
    command += ["--install-policy", "never", "--no-create-pool-if-not-found"]
    return _service(plan, "worker", command, env, stop_seconds=15.0, children_first=True)


def metrics(plan: Plan) -> Service:
    """The metrics of the trainings of this checkout."""
    command = ["vldac", "metrics", "--host", plan.host, "--port", str(plan.metrics_port)]
    return _service(plan, "metrics", command, client_environment(plan))


def _service(plan: Plan, name: str, command: Sequence[str], env: dict[str, str], **how: Any) -> Service:
    return Service(name, [sys.executable, "-m", *command], cwd=plan.root, env=env, logs=plan.logs, **how)


def _create_deployments(plan: Plan) -> None:
    """In a process of its own, since Prefect reads its settings once; says who is notified, what stays as it was."""
    command = [sys.executable, "-m", "vldac", "deployments", "--devices", str(plan.devices)]
    for line in repro.call("vldac deployments", command, cwd=plan.root, env=client_environment(plan)):
        if not line.startswith("Prefect at "):  # which is said once all services answer
            print(line, flush=True)


def ready(plan: Plan) -> str:
    """What is said once everything answers."""
    lines = []
    if plan.servers:
        lines += [f"Prefect   {plan.prefect_url}  runs, schedules, deployments"]
        lines += [f"MLflow    {plan.mlflow_url}/#/models?{runs.TRAINING_PAGES}  metrics, registered versions"]
    if plan.worker:
        lines.append(f"worker    in {plan.root}; runs on its devices: {plan.devices} at a time")
    if plan.metrics_port is not None:
        lines.append(f"metrics   http://{plan.reached_at}:{plan.metrics_port}/metrics  for Prometheus")
    lines += [f"logs      {plan.logs}", "Ctrl-C stops all of it"]
    return "\n".join(lines)
