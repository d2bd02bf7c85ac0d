"""`vldac run`: the whole pipeline on this machine, and a short table at its end.

Prefect runs without a server of its own standing by (it starts one for the time of the run) and keeps its history in
.local/prefect; `PREFECT_API_URL` names another server.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import os
import re
import signal
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, cast

from benchmarks.harness import section
from pipelines.core import errors, network, tables
from pipelines.core.project import home
from pipelines.tracking import runs
from vldac.config import load
from vldac.utils import processes
from vldac.utils.progress import Progress, write

if TYPE_CHECKING:
    from pipelines.orchestration.flows import Outcome, Step


def environment(root: Path) -> dict[str, str]:
    """Settings of Prefect and MLflow for a run on one machine; what is set already wins."""
    return {
        "PREFECT_HOME": str(home(root) / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",  # its modules take long to load on a busy machine
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # `Terminal` prints what a person wants to read
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # the default could run what it loads
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds; a server of `vldac serve` expects one within 100
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for jobs that nothing here asks for
    }


class Terminal(logging.Handler):
    """Prints what the pipeline itself logs, and nothing of Prefect's own; the server gets both."""

    def __init__(self) -> None:
        super().__init__()
        here = str(Path(__file__).parents[1]) + os.sep
        self.addFilter(lambda record: record.pathname.startswith(here))

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message."""
        write(record.getMessage())


def run(params: str = "", overrides: Sequence[str] = (), steps: Sequence[str] = (), *, force: bool = False) -> int:
    """Runs the pipeline and prints what came of it.

    Args:
        params: params file of the project; empty: params.yaml.
        overrides: `section.key=value`, or a section's preset.
        steps: of the flow; none: all, in their order.
        force: run stages even if they are up to date.

    Returns:
        The exit status.

    Raises:
        ConfigError: a parameter is wrong.
        PipelineError: a step is unknown, or failed.
    """
    root = Path.cwd()
    config = load(params or "params.yaml", overrides)
    section.parse(config.benchmarks)  # a wrong key stops here
    write(f"{config.env.id}, seed {config.seed}, {config.model.base}: starting Prefect")
    for name, value in environment(root).items():
        os.environ.setdefault(name, value)
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _end)
    _forget_unreachable_server()

    with Progress("starting Prefect"):
        from prefect import tags  # noqa: PLC0415

        from pipelines.orchestration import flows  # noqa: PLC0415  # Prefect reads its settings when it is imported

        unknown = sorted(set(steps) - set(flows.STEPS))
        if unknown:
            raise errors.PipelineError(f"unknown step {unknown[0]!r}; choose from {', '.join(flows.STEPS)}")
        if not re.fullmatch(flows.PARAMS_FILE, params):
            raise errors.PipelineError(
                f"--params {params}: name a file of this project that ends in .yaml, of letters, digits, and . _ / -"
            )
        wanted = cast("list[Step]", list(steps or flows.STEPS))
        terminal = Terminal()
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addHandler(terminal)
        _tie_server()
    with tags("vldac", "train", "command-line"):
        outcome = flows.train_pipeline(params_file=params, overrides=list(overrides), steps=wanted, force=force)
    print(closing(root, outcome))
    if outcome.registry_error:
        raise errors.PipelineError(outcome.registry_error)
    return 0


def _forget_unreachable_server() -> None:
    """A Prefect server that is away must not stop a run: it then gets a server of its own.

    Raises:
        PipelineError: something else answers at its address, or the server does not let this user in.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return
    try:
        require_prefect(url)
    except (OSError, http.client.HTTPException) as error:
        print(f"Prefect at PREFECT_API_URL cannot be reached ({error}); this run keeps its history in .local/prefect")
        del os.environ["PREFECT_API_URL"]


def require_prefect(url: str) -> None:
    """Checks that a Prefect server answers at an address and lets this user in.

    Raises:
        PipelineError: something else answers, or the server refuses.
        OSError: nothing answers.
        HTTPException: what answers does not speak HTTP.
    """
    shown = runs.without_credentials(url)
    try:
        healthy = json.loads(_get(f"{url.rstrip('/')}/health")) is True
        if healthy and not os.environ.get("PREFECT_API_KEY"):  # a key is for Prefect Cloud, which has no such page
            _get(f"{url.rstrip('/')}/admin/version")
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            raise errors.PipelineError(
                f"Prefect at {shown} does not let this user in; set PREFECT_API_AUTH_STRING to user:password, or unset "
                "PREFECT_API_URL"
            ) from None
        healthy = False
    except ValueError:
        healthy = False
    if not healthy:
        raise errors.PipelineError(
            f"no Prefect server answers at {shown}; PREFECT_API_URL must be its API, such as "
            "http://127.0.0.1:4200/api, or unset"
        )


def _get(url: str) -> bytes:
    request = urllib.request.Request(url)  # noqa: S310  # the user's own setting
    if password := os.environ.get("PREFECT_API_AUTH_STRING"):
        request.add_header("Authorization", f"Basic {base64.b64encode(password.encode()).decode()}")
    with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310
        return bytes(reply.read(1_000_000))


def _end(number: int, _: FrameType | None) -> NoReturn:
    """Ends this process in order, as Ctrl-C does, with the exit status that a shell gives to this signal."""
    signal.signal(number, signal.SIG_DFL)
    name = signal.Signals(number).name
    print(f"error: ended by {name}; the same command resumes where this one stopped", file=sys.stderr)
    raise SystemExit(128 + number)


def _tie_server() -> None:
    """Starts the server of this run, if it needs one, so that not even `kill -9` of this process leaves it behind.

    Raises:
        PipelineError: it does not start.
    """
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415

    if PREFECT_API_URL.value() is not None:
        return
    network.require_loopback()
    from pipelines.orchestration.prefect_server import RunServer  # noqa: PLC0415  # takes seconds

    server = RunServer()  # Prefect has one instance for each port: its clients find this one
    try:
        server.start()
    except RuntimeError:
        ended = None if server.server_process is None else server.server_process.poll()
        reason = "the machine is very busy" if ended is None else f"it ended with status {ended}"
        raise errors.PipelineError(
            f"Prefect's server does not answer: {reason}; type the same command again, or raise "
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
        ) from None
    if server.server_process is not None:
        processes.kill_when_parent_dies(server.server_process.pid)


def closing(root: Path, outcome: Outcome) -> str:
    """The last lines of a run, for a terminal of 80 columns: the comparison, where to look, and what to type next."""
    lines = [""]
    if outcome.summary is not None:
        acts = tables.base_acts(load(outcome.root / "params.yaml").model_dump())
        lines += [tables.text(outcome.summary, acts=acts), ""]
    if outcome.benchmarks is not None:
        lines += [tables.benchmark_text(outcome.benchmarks), ""]
    for name, path in (
        ("learning curve", "plots/learning_curve.png"),
        ("filmstrip", "plots/filmstrip.png"),
        ("benchmarks", "scores/report/report.html"),
    ):
        if (found := outcome.root / path).exists():
            lines.append(_entry(name, str(found.relative_to(root))))
    if outcome.registered is not None:
        aliases = "@candidate"
        if outcome.promotion is not None and outcome.promotion.champion == outcome.registered.version:
            aliases += " @champion"
        lines.append(_entry("registered", outcome.registered.name))
        lines.append(_entry("", f"version {outcome.registered.version} {aliases}"))
    if outcome.promotion is not None:
        lines.append(_entry("promotion", outcome.promotion.decision.reason))
    lines.append("")
    program = "make" if (root / "Makefile").is_file() else "vldac"
    for page, shows in (("prefect", "the page of this run"), ("mlflow", "metrics and registry")):
        lines.append(_entry(f"{program} {page}", f"opens {shows}"))
    return "\n".join(lines)


def _entry(name: str, what: str) -> str:
    """A name and what it is, in as many lines as 80 columns need; a path or a name stays whole."""
    return textwrap.fill(
        f"{name:<15} {what}",
        80,
        subsequent_indent=" " * 16,
        break_long_words=False,
        break_on_hyphens=False,
    )
