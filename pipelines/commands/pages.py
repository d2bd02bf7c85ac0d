"""`vldac prefect` and `vldac mlflow`: the pages of this project's runs, for this machine only."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from pipelines.commands.run import environment
from pipelines.core import errors
from pipelines.core.project import home
from pipelines.tracking import runs

HOST = "127.0.0.1"
PORTS = {"prefect": 4200, "mlflow": 5000}


def open_page(page: str, port: int | None = None) -> int:
    """Becomes the server of a page.

    Args:
        page: one of `PORTS`.
        port: to listen on; None takes the page's own of `PORTS`.

    Returns:
        The exit status, where the pages are on a server elsewhere, which is said; else it does not return.

    Raises:
        PipelineError: the port cannot be used.
    """
    root, port = Path.cwd(), PORTS[page] if port is None else port
    for name, value in environment(root).items():
        os.environ.setdefault(name, value)
    os.environ.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL")
    elsewhere = os.environ.get("PREFECT_API_URL" if page == "prefect" else "MLFLOW_TRACKING_URI", "")
    if elsewhere.startswith("http"):
        print(f"the runs are on a server of their own: {runs.without_credentials(elsewhere)}")
        return 0
    free(port, HOST, f"vldac {page} --port {port + 1}")
    home(root).mkdir(parents=True, exist_ok=True)
    path = f"/#/models?{runs.TRAINING_PAGES}" if page == "mlflow" else ""
    print(f"http://{HOST}:{port}{path}  (Ctrl-C stops it)", flush=True)
    command = _prefect(port) if page == "prefect" else _mlflow(root, port)
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606  # becomes the server; no shell


def free(port: int, host: str, other: str) -> None:
    """Checks that a server may listen on a port.

    Args:
        port: that is wanted.
        host: address to listen on.
        other: what to type for another port.

    Raises:
        PipelineError: something else does, or the port is not for this user.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise errors.PipelineError(
                f"port {port} cannot be used ({error.strerror}); choose another: {other}"
            ) from None
        except OverflowError:
            raise errors.PipelineError(f"{port} is no port; choose one from 1024 to 65535") from None


def _prefect(port: int) -> list[str]:
    # The page asks port 4200 for its data unless it is told otherwise; relative, it holds for every name of this host.
    os.environ.setdefault("PREFECT_UI_API_URL", "/api")
    return ["-m", "pipelines.orchestration.prefect_server", "--host", HOST, "--port", str(port)]


def _mlflow(root: Path, port: int) -> list[str]:
    with runs.reachable(root):
        runs.client(root)  # makes the database before the server's several processes would all try to
    # By environment: a database's password must not stand in the list of processes.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = runs.tracking_uri(root)
    os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = (home(root) / "mlartifacts").as_uri()
    return ["-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
