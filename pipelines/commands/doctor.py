"""`vldac doctor`: what this machine has of what a run needs, a line each, with a cure for what is missing."""

from __future__ import annotations

import http.client
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from pipelines.commands import pages, run
from pipelines.core import network
from pipelines.core.errors import PipelineError
from pipelines.tracking import runs

#: Bytes that a run needs: a base model, its checkpoints, a registered version and room for tools.
ROOM = 2 << 30
_PATIENCE = 120.0
_HUB = "https://huggingface.co"
_HUB_SECONDS = 5.0
_DRAW = "from envs.registry import make; make('MiniWorld-OneRoomS6Fast-v0', width=64, height=48).reset(seed=0)"
_GPUS = "import torch; print(*(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())), sep=', ')"


class Finding(NamedTuple):
    """What one look has found.

    Attributes:
        verdict: "ok"; "FAIL" for what a run fails without; "-" for what some runs need.
        text: one line, with the cure where there is something to cure.
    """

    verdict: str
    text: str


def examine(root: Path) -> Iterator[tuple[str, Finding]]:
    """Looks at everything, one after the other.

    Args:
        root: the project.

    Yields:
        What was looked at, and what was found.
    """
    looks: tuple[tuple[str, Callable[[Path], Finding]], ...] = (
        ("Python", _python),
        ("project", _project),
        ("disk", _disk),
        ("loopback", _loopback),
        ("drawing", _drawing),
        ("GPU", _gpu),
        ("hub", _hub),
        ("MLflow", _mlflow),
        ("Prefect", _prefect),
        *((f"port {port}", lambda _, page=page, port=port: _port(page, port)) for page, port in pages.PORTS.items()),
    )
    for name, look in looks:
        try:
            yield name, look(root)
        except FileNotFoundError as error:
            yield name, Finding("FAIL", f"{error.filename} is not installed; install it")
        except (PipelineError, OSError) as error:
            yield name, Finding("FAIL", " ".join(str(error).split()))


def _python(_root: Path) -> Finding:
    names = ("torch", "transformers", "deepspeed", "prefect", "mlflow", "dvc")
    found = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return Finding("ok", f"{platform.python_version()}; {found}")


def _project(root: Path) -> Finding:
    if not (root / "params.yaml").is_file():
        return Finding("FAIL", f"{root} holds no params.yaml; go to a checkout, or start one: vldac new DIRECTORY")
    command = ["git", "-c", f"safe.directory={root}", "rev-parse", "HEAD"]
    git = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if git.returncode:
        return Finding("FAIL", f"{root} is in no git repository with a commit; git init && git add . && git commit")
    if not (root / ".dvc").is_dir():
        return Finding("FAIL", f"{root} is no DVC project; dvc init")
    return Finding("ok", f"{root} at {git.stdout[:10].strip()}")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    text = f"{free / 2**30:.1f} GiB free in {root}"
    return (
        Finding("ok", text)
        if free >= ROOM
        else Finding("FAIL", f"{text}; a run needs {ROOM >> 30}: free some space (vldac gc)")
    )


def _loopback(_root: Path) -> Finding:
    network.require_loopback()
    return Finding("ok", "programs of this machine reach each other")


def _drawing(root: Path) -> Finding:
    done = _child(_DRAW, root)
    if done.returncode == 0:
        return Finding("ok", "MiniWorld draws")
    last = (done.stderr.strip() or "no reason given").splitlines()[-1]
    return Finding("FAIL", last.rpartition("Error: ")[2])


def _gpu(root: Path) -> Finding:
    names = _child(_GPUS, root).stdout.strip()
    return Finding("ok", names) if names else Finding("-", "none that torch can use; the small model needs none")


def _hub(_root: Path) -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}:
        return Finding("-", "HF_HUB_OFFLINE is set: models must be on this machine")
    endpoint = os.environ.get("HF_ENDPOINT") or _HUB
    shown = runs.without_credentials(endpoint)
    try:  # through a proxy, where the environment names one, as downloads go
        asked = Request(endpoint, method="HEAD")  # noqa: S310  # of the user's environment
        build_opener().open(asked, timeout=_HUB_SECONDS).close()
    except HTTPError:  # an answer, though not the page
        pass
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        return Finding("-", f"{shown} cannot be reached ({why}); large models must be on this machine")
    return Finding("ok", f"{shown} answers")


def _mlflow(root: Path) -> Finding:
    uri = runs.tracking_uri(root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return Finding("ok", f"none yet; the first run makes {uri}")
    with runs.reachable(root):
        count = len(runs.every(runs.client(root).search_registered_models))
    return Finding("ok", f"{runs.without_credentials(uri)}, {count} registered models")


def _prefect(_root: Path) -> Finding:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return Finding("-", "PREFECT_API_URL is not set; each run has a server of its own, with its history in .local")
    shown = runs.without_credentials(url)
    try:
        run.require_prefect(url)
    except (OSError, http.client.HTTPException) as error:
        return Finding("-", f"{shown} cannot be reached ({error}); runs get servers of their own until it can")
    return Finding("ok", shown)


def _port(page: str, port: int) -> Finding:
    try:
        pages.free(port, pages.HOST, f"vldac {page} --port {port + 1}")
    except PipelineError as error:
        return Finding("-", f"{error} (vldac serve may be what listens there)")
    return Finding("ok", f"free for vldac {page}")


def _child(code: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_PATIENCE:.0f} s")
