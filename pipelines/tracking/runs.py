"""MLflow runs: one per training, the same one after every resume, and the client that reaches them.

Training writes its metrics to a file and knows nothing of servers; `pipelines.tracking.forwarder` carries them here.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core import rundir
from pipelines.core.errors import PipelineError, explain
from pipelines.core.project import home, revision, workspace
from pipelines.core.rundir import RunIdentity
from pipelines.tracking.forwarder import STEPS, Row, read_metrics, reason, unsent
from vldac.config import Config
from vldac.utils.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "vldac"
RUN_KEY = "vldac.run_key"
#: Tag of an experiment by which MLflow shows the pages of model training, and not those of language-model applications.
_KIND = ("mlflow.experimentKind", "custom_model_development")
#: What makes an address of MLflow's pages show those of model training.
TRAINING_PAGES = "workflowType=machine_learning"
#: Tags of a run: what MLflow shows as its description, and what training has warned of last.
NOTE, WARNING = "mlflow.note.content", "vldac.warning"
_TRANSFER = "3600"  # seconds that a file may take; with S3 behind it, a server answers when it has passed it on
_BATCH = 1000  # metrics that MLflow takes in one request
_PARAMS = 100  # and parameters

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that is away is asked again by the forwarder; a request must not hang on it for MLflow's two minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


def tracking_uri(root: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file of the project, as an absolute address.

    A relative SQLite file is one of the project's, not of the directory in which DVC runs a queued experiment.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home(root) / 'mlflow.db'}"
    scheme, separator, path = uri.partition(":///")
    if scheme == "sqlite" and separator and not Path(path).is_absolute():
        return f"sqlite:///{workspace(root) / path}"
    return uri


def without_credentials(uri: str) -> str:
    """The address without user, password, query and fragment: safe in a log and in a file."""
    if uri.startswith("sqlite:"):  # a path, which may have a "#"
        return uri
    scheme, separator, rest = uri.partition("://")
    if scheme in {"http", "https"}:  # a query may hold an @; the password of a database may hold anything but one
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return re.split(r"[?#]", f"{scheme}{separator}{rest.rpartition('@')[2]}", maxsplit=1)[0]


@contextmanager
def transferring(label: str) -> Iterator[None]:
    """A context in which weights of gigabytes come or go, which says that it goes on.

    A request may take as long as they do, unless this user has set a time.

    Args:
        label: what is done.
    """
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    with Progress(label):
        if os.environ.get(name, _DEFAULTS[name]) != _DEFAULTS[name]:
            yield
            return
        os.environ[name] = _TRANSFER
        try:
            yield
        finally:
            os.environ[name] = _DEFAULTS[name]


def client(root: Path) -> MlflowClient:
    """A client of the tracking server, its database and its experiment made on first use.

    Raises:
        Exception: whatever MLflow raises where the server cannot be reached.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: PLC0415  # seconds to import; whoever needs no server does not wait for it

    uri = tracking_uri(root)
    mlflow.set_tracking_uri(uri)
    with _first_use(root, uri):
        made = mlflow.MlflowClient(uri)
        experiment = made.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            artifacts = (home(root) / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
            made.create_experiment(EXPERIMENT, artifact_location=artifacts, tags=dict([_KIND]))
        elif _KIND[0] not in experiment.tags:
            made.set_experiment_tag(experiment.experiment_id, *_KIND)
    return made


def every(search: Callable[..., Any], *given: Any) -> list[Any]:
    """All that a search of MLflow's client finds, which answers in pages: of a hundred registered models at most.

    Args:
        search: a method of the client.
        given: its arguments.
    """
    page = search(*given)
    found = list(page)
    while page.token:
        page = search(*given, page_token=page.token)
        found += page
    return found


def lock_file(root: Path, name: str) -> Path:
    """A file by which the processes of this machine that share a tracking database take turns.

    It lies beside a local database, which several checkouts may share, and in `.local` where a server is used.
    """
    uri = tracking_uri(root)
    local = uri.startswith("sqlite:///")
    directory = Path(uri.removeprefix("sqlite:///")).parent if local else home(root)
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f".{name}.lock"


@contextmanager
def _first_use(root: Path, uri: str) -> Iterator[None]:
    """Makes a local database whole or not at all, by one process at a time; MLflow's own attempts collide."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    import fcntl  # noqa: PLC0415  # not on Windows, where only a server can be used

    import mlflow  # noqa: PLC0415

    database = Path(uri.removeprefix("sqlite:///"))
    with lock_file(root, "first-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            # A process that is killed half-way through the tables must not leave a database that nobody can use.
            aside = database.with_name(f".{database.name}.new")
            aside.unlink(missing_ok=True)
            mlflow.MlflowClient(f"sqlite:///{aside}").search_experiments()
            aside.replace(database)
        yield


@dataclass(frozen=True)
class RunDetails:
    """What an MLflow run says of itself besides its metrics."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]


def details(root: Path, config: Config) -> RunDetails:
    """Parameters and tags of a training run of `config` in this working tree."""
    at = revision(root)
    # A run may be resumed with other values of what does not decide its weights, and MLflow's parameters are final.
    values = config.deciding()
    return RunDetails(
        name=f"{config.env.id} {config.train.algorithm} seed {config.seed}",
        tags={
            "vldac.env": config.env.id,
            "vldac.algorithm": config.train.algorithm,
            "vldac.base": config.model.base,
            "vldac.seed": str(config.seed),
            "vldac.git": at.commit[:12] + ("-dirty" if at.dirty else ""),
            **_experiment(),
        },
        params=flatten(values),
    )


def _experiment() -> dict[str, str]:
    """Which of DVC's experiments this process works for, where it does."""
    variables = {"dvc.exp.name": "DVC_EXP_NAME", "dvc.exp.baseline": "DVC_EXP_BASELINE_REV"}
    return {tag: value for tag, variable in variables.items() if (value := os.environ.get(variable))}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested sections as `section.key` with JSON values, strings bare."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def find_run(client: MlflowClient, run_key: str) -> Run | None:
    """The MLflow run that carries our key, in whatever state it is."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], f"tags.`{RUN_KEY}` = '{run_key}'", max_results=1)
    return found[0] if found else None


def mark_stopped(client: MlflowClient, directory: Path) -> list[str]:
    """Marks runs as killed that MLflow shows as running although their process is gone; resumed, they run again.

    Args:
        client: of a server within reach.
        directory: of the run directories of this machine. Those of others are theirs to mark.

    Returns:
        The names of these runs.
    """
    experiment = client.get_experiment_by_name(EXPERIMENT)
    running = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
    by_key = {run.data.tags[RUN_KEY]: run for run in running if RUN_KEY in run.data.tags}
    found = [by_key[identity.run_key] for identity in rundir.stopped(directory, by_key)]
    for run in found:
        client.set_terminated(run.info.run_id, "KILLED")
    return [run.info.run_name for run in found]


class MlflowRun:
    """The MLflow run of a training, found again by its key or made now.

    Args:
        client: of a server within reach.
        identity: of the run.
        details: for a run that is new to the server.
    """

    def __init__(self, client: MlflowClient, identity: RunIdentity, details: RunDetails) -> None:
        self._client = client
        self._started_ms = identity.started_ms
        run = find_run(client, identity.run_key)
        if run is None:
            experiment = client.get_experiment_by_name(EXPERIMENT)
            run = client.create_run(
                experiment.experiment_id,
                start_time=identity.started_ms,
                run_name=details.name,
                tags={**details.tags, RUN_KEY: identity.run_key, "vldac.fingerprint": identity.fingerprint},
            )
        self.run_id: str = run.info.run_id
        if run.info.status != "RUNNING":
            client.update_run(self.run_id, status="RUNNING")
        missing = {key: value for key, value in details.params.items() if key not in run.data.params}
        self._log_params(missing)

    def _log_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param  # noqa: PLC0415

        items = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(items), _PARAMS):
            self._client.log_batch(self.run_id, params=items[start : start + _PARAMS])

    def last_step(self) -> int:
        """See `MetricsServer`."""
        latest = self._client.get_run(self.run_id).data.metrics.get(STEPS)
        return -1 if latest is None else int(latest)

    def send(self, rows: Sequence[Row]) -> None:
        """See `MetricsServer`."""
        from mlflow.entities import Metric  # noqa: PLC0415

        batch: list[Any] = []
        for row in rows:
            step = int(row[STEPS])
            # The file's clock, not this process's: a row that is sent twice is then the same row to MLflow.
            timestamp = self._started_ms + int(1000 * float(row.get("time_s", 0.0)))
            metrics = [Metric(key, value, timestamp, step) for key, value in _numbers(row) if key != STEPS]
            metrics.append(Metric(STEPS, float(step), timestamp, step))
            if len(batch) + len(metrics) > _BATCH:
                self._flush(batch)
                batch = []
            batch += metrics
        self._flush(batch)
        if warnings := [line for row in rows for line in row.get("warnings", ())]:
            self._client.set_tag(self.run_id, WARNING, warnings[-1])

    def _flush(self, batch: Sequence[Any]) -> None:
        for start in range(0, len(batch), _BATCH):
            self._client.log_batch(self.run_id, metrics=batch[start : start + _BATCH])

    def finish(self, status: str) -> None:
        """See `MetricsServer`."""
        self._client.set_terminated(self.run_id, status)


def _numbers(row: Row) -> list[tuple[str, float]]:
    pairs = ((key, value) for key, value in row.items() if isinstance(value, int | float))
    return [(key, float(value)) for key, value in pairs if not math.isnan(value)]


def send_all(client: MlflowClient, metrics: Path, identity: RunIdentity, details: RunDetails) -> str:
    """Brings the MLflow run of a finished training up to date and ends it.

    Returns:
        Its run id.
    """
    run = MlflowRun(client, identity, details)
    rows = unsent(run.last_step(), read_metrics(metrics))
    if rows:
        run.send(rows)
    run.finish("FINISHED")
    return run.run_id


@contextmanager
def reachable(root: Path) -> Iterator[None]:
    """Turns a failure of the tracking server, or of this machine's files, within it into one readable line."""
    try:
        yield
    except Exception as error:
        if _of_server(error):
            uri = without_credentials(tracking_uri(root))
            if cure := _cure_of_refusal(error):
                raise PipelineError(f"MLflow at {uri} refuses: {reason(error).rstrip('.')}; {cure}") from error
            raise PipelineError(
                f"MLflow at {uri} cannot be used: {reason(error)}; run the same command again once it can"
            ) from error
        if isinstance(error, OSError):  # a full disk here is no fault of the server
            raise PipelineError(explain(error)) from error
        raise


def _cure_of_refusal(error: Exception) -> str | None:
    """What to do about an answer that will be the same next time, None where the server was not able to give one."""
    text, code = str(error), getattr(error, "error_code", "")
    if (match := re.search(r"experiment '?(\w+)'? must be in the 'active' state", text)) is not None:
        return f"`mlflow experiments restore --experiment-id {match[1]}` brings the experiment back"
    if code in {"UNAUTHENTICATED", "PERMISSION_DENIED"} or re.search(r"error code 40[13]\b", text):
        return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user who may do this"
    if code in {"RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "INVALID_STATE"}:
        return "it has been changed there meanwhile, or MLFLOW_TRACKING_URI names another server than before"
    return None


def _of_server(error: Exception) -> bool:
    """Whether an error is MLflow's own or of what it talks through, rather than of this package or of a file."""
    library = type(error).__module__.partition(".")[0]
    network = (ConnectionError, TimeoutError, socket.gaierror)
    return isinstance(error, network) or library in {"mlflow", "sqlalchemy", "requests", "urllib3"}
