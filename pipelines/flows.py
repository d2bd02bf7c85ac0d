"""The Prefect flow: what runs when, retried how, and what a person sees of it.

DVC decides whether a stage has anything to do and what its result is; a task here wraps one `dvc repro --single-item`.
Registration and promotion are tasks of their own, idempotent on the content of the weights.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from pipelines import process, registry, report, tracking
from pipelines.cli import PipelineError
from pipelines.project import read_json
from vldac.config import Config, load

Step = Literal["worlds", "base", "train", "register", "evaluate", "promote"]
STEPS: tuple[Step, ...] = ("worlds", "base", "train", "register", "evaluate", "promote")

#: What DVC prints for a person who types `dvc repro`: of no use in a pipeline's log.
_CHATTER = re.compile(
    r"(Updating|Generating) lock file|To (track|enable) |\tgit add |\tdvc config |Use `dvc push`"
    r"|Data and pipelines are up|Stage '\w+' didn't change|WARNING: Process .* had been killed. Auto removed it"
)
_EXITED = re.compile(r"exited with (-?\d+)\s*$")


class StageError(PipelineError):
    """A stage failed.

    Attributes:
        interrupted: a signal ended it; another attempt continues where this one stopped.
    """

    def __init__(self, message: str, *, interrupted: bool = False) -> None:
        super().__init__(message)
        self.interrupted = interrupted


@dataclass(frozen=True)
class Outcome:
    """What a run of the flow came to.

    Attributes:
        summary: metrics/summary.json, if the run evaluated.
        registered: the version of these weights, if the run registered them.
        promotion: what became of the candidate, if the run promoted.
        registry_error: why the registry could not be used; nothing else depends on it.
    """

    summary: dict[str, Any] | None = None
    registered: registry.Registered | None = None
    promotion: registry.Promotion | None = None
    registry_error: str | None = None


def repro(root: Path, name: str, say: Callable[[str], None], *, force: bool = False) -> bool:
    """Runs one DVC stage if it is out of date.

    Args:
        root: the project.
        name: of the stage.
        say: takes every line that the stage prints.
        force: run it even if it is up to date.

    Returns:
        Whether it ran; False where its results were there already, or were restored from DVC's cache.

    Raises:
        StageError: it failed; the message is the last `error: ...` line that it printed.
    """
    lines: list[str] = []

    def on_line(line: str) -> None:
        if line and not _CHATTER.match(line):
            lines.append(line)
            if not line.startswith("ERROR: failed to reproduce"):  # what follows from the line before
                say(line)

    command = [sys.executable, "-m", "dvc", "repro", "--single-item", name, *(["--force"] if force else [])]
    code = process.stream(command, on_line, cwd=root, env=_environment())
    if code:
        raise _failure(name, code, lines)
    return any(line.startswith("Running stage") for line in lines)


def _environment() -> dict[str, str]:
    """This process's environment for a child: no flow-run context, this interpreter first, and output at once."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT__")}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    env["PYTHONUNBUFFERED"] = "1"
    return env


def _failure(name: str, code: int, lines: Sequence[str]) -> StageError:
    """The one line that says what went wrong, out of all that was printed."""
    exited = next((int(match[1]) for line in reversed(lines) if (match := _EXITED.search(line))), code)
    interrupted = code < 0 or exited < 0 or 128 < exited <= 128 + 64  # 128 + n: a shell's word for signal n
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if said:
        return StageError(said[-1], interrupted=interrupted)
    if any("is busy" in line for line in lines):
        return StageError("another dvc command works in this project; wait for it or stop it")
    if interrupted:
        return StageError(f"stage {name} was ended by a signal (exit code {exited}); run it again", interrupted=True)
    # DVC's last line follows from the one before it, unless it is the only one: then it holds the cause itself.
    before = [line for line in lines if not line.startswith("ERROR: failed to reproduce")] or lines
    last = before[-1].removeprefix("ERROR: ") if before else f"exit code {code}"
    return StageError(f"stage {name}: {last}")


def _resumable(_task: Any, _run: Any, state: Any) -> bool:
    """Only what a signal ended is worth another attempt; a stage that failed would fail again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.interrupted


@task(task_run_name="{name}", retries=1, retry_delay_seconds=2, retry_condition_fn=_resumable, persist_result=False)
def stage(name: str, *, force: bool) -> bool:
    """One DVC stage; see `repro`. A second attempt of training resumes from its last checkpoint."""
    log = get_run_logger()
    ran = repro(Path.cwd(), name, lambda line: log.info("%s", line), force=force)
    if not ran:
        log.info("%s: up to date", name)
    return ran


@task(task_run_name="register", persist_result=False)
def register() -> registry.Registered:
    """See `registry.register`."""
    log = get_run_logger()
    done = registry.register(Path.cwd(), load("params.yaml"))
    log.info("register: %s version %s %s", done.name, done.version, "made" if done.new else "holds these weights")
    return done


@task(task_run_name="promote", persist_result=False)
def promote() -> registry.Promotion:
    """See `registry.promote`."""
    log = get_run_logger()
    done = registry.promote(Path.cwd(), load("params.yaml"))
    verb = "is now" if done.decision.promote else "is"
    log.info("promote: version %s %s @%s (%s)", done.champion, verb, registry.CHAMPION, done.decision.reason)
    return done


@flow(name="train-pipeline", persist_result=False, validate_parameters=True)
def train_pipeline(steps: Sequence[Step] = STEPS, force: bool = False) -> Outcome:
    """Worlds, base model, training, registration, evaluation, promotion; what is up to date is left alone.

    Args:
        steps: which of them; they always run in the order above.
        force: run the stages among them even if they are up to date.
    """
    config = load("params.yaml")  # a wrong key stops here, before any stage
    log = get_run_logger()
    registered = promotion = error = None
    for step in (name for name in STEPS if name in steps):
        try:
            if step == "register":
                registered = register()
            elif step == "promote":
                promotion = promote() if error is None else None
            else:
                stage(step, force=force)
        except StageError:
            raise
        except PipelineError as failure:  # the registry is away: what was trained is still worth an evaluation
            error = str(failure)
            log.warning("%s: %s", step, error)
    summary = read_json(Path("metrics/summary.json")) if "evaluate" in steps else None
    outcome = Outcome(summary, registered, promotion, error)
    _artifacts(config, outcome)
    return outcome


def _artifacts(config: Config, outcome: Outcome) -> None:
    """What the Prefect page of a run shows."""
    warm_started = config.model.base == "tiny"
    if outcome.summary is not None:
        cells = report.rows(outcome.summary, warm_started=warm_started)
        create_table_artifact(
            key="comparison",
            table=[dict(zip(("policy", *report.COLUMNS[1:]), row, strict=True)) for row in cells],
            description=f"{config.env.id}, seed {config.seed}",
        )
    for key in ("learning-curve", "filmstrip"):
        path = Path("plots") / f"{key.replace('-', '_')}.png"
        if path.exists():  # embedded: a page opened later, or elsewhere, cannot read this directory
            data = base64.b64encode(path.read_bytes()).decode()
            create_image_artifact(f"data:image/png;base64,{data}", key=key, description=str(path))
    lines = [f"# {config.env.id}, seed {config.seed}", ""]
    if outcome.summary is not None:
        lines += [report.markdown(outcome.summary, warm_started=warm_started), ""]
    if outcome.registered is not None:
        lines.append(f"- registered: `models:/{outcome.registered.name}/{outcome.registered.version}` (@candidate)")
    if outcome.promotion is not None:
        lines.append(f"- champion: version {outcome.promotion.champion} ({outcome.promotion.decision.reason})")
    if outcome.registry_error is not None:
        lines.append(f"- not registered: {outcome.registry_error}")
    lines.append(f"- MLflow: `{tracking.without_credentials(tracking.tracking_uri(Path.cwd()))}`")
    create_markdown_artifact("\n".join(lines), key="report", description="What this run came to")
