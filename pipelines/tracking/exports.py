"""Checkpoints in MLflow: a logged model for each policy that a run kept, with its step and its scores.

`search_logged_models` ranks them, those of one run and those of many. A model is known by the hash of its files, so
that what is logged again, after a failure or by another run with the same result, is found and not doubled.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.project import content_hash, home, read_json
from pipelines.tracking import runs
from pipelines.tracking.datasets import EvaluationSet
from vldac.config import Config

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

CONTENT = "content.sha256"
SUCCESS = "evaluate/success"


def experiment_id(client: MlflowClient) -> str:
    """Of the project's experiment."""
    return str(client.get_experiment_by_name(runs.EXPERIMENT).experiment_id)


def model_name(config: Config, step: int) -> str:
    """Of a logged policy, as MLflow's lists show it; its names have none of the signs that an id may have."""
    described = f"{config.env.id} {config.train.algorithm} seed {config.seed} step {step}"
    return re.sub(r"[^\w-]+", "-", described)


def find(client: MlflowClient, content: str) -> LoggedModel | None:
    """The logged model of these very files; one whose upload was cut off is removed."""
    found = client.search_logged_models([experiment_id(client)], f"tags.`{CONTENT}` = '{content}'")
    for model in found:
        if str(model.status) == "READY":
            return model
        client.delete_logged_model(model.model_id)
    return None


def log(client: MlflowClient, root: Path, config: Config, run_id: str, tags: Mapping[str, str]) -> list[str]:
    """Logs every policy of models/checkpoints that is not there yet, at its step.

    Args:
        client: of a server within reach.
        root: the project.
        config: of the run.
        run_id: of the MLflow run that trained them.
        tags: lineage, the same for all of them.

    Returns:
        Their model ids, in the order of their steps.
    """
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415  # seconds to import

    ids = []
    for entry in index(root):
        directory, step = root / "models/checkpoints" / entry["path"], int(entry["environment_steps"])
        content = content_hash(directory)
        model = find(client, content)
        if model is None:
            model = client.create_logged_model(
                experiment_id(client),
                name=model_name(config, step),
                source_run_id=run_id,
                tags={**tags, CONTENT: content, "dvc.path": f"models/checkpoints/{entry['path']}"},
                params={"environment_steps": str(step), "update": str(entry["update"])},
                model_type="policy",
            )
            with dereferenced(directory, home(root)) as files:
                client.log_model_artifacts(model.model_id, str(files))
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
            client.finalize_logged_model(model.model_id, "READY")
        ids.append(str(model.model_id))
    return ids


@contextmanager
def dereferenced(path: Path, space: Path | None = None) -> Iterator[Path]:
    """A file or directory as MLflow takes it: without symbolic links, which a DVC cache of type symlink consists of.

    Args:
        path: of the project.
        space: directory with space for a copy, which may be gigabytes; None: that of temporary files.

    Yields:
        `path`, or a copy of the same name.
    """
    if not (path.is_symlink() or any(inner.is_symlink() for inner in path.rglob("*"))):
        yield path
        return
    if space is not None:
        space.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=space, prefix="upload.") as directory:
        copy = Path(directory, path.name)
        if path.is_dir():
            shutil.copytree(path, copy, copy_function=shutil.copyfile)  # not read-only, as a cache is
        else:
            shutil.copyfile(path, copy)
        yield copy


def index(root: Path) -> list[dict[str, Any]]:
    """What `train` says of models/checkpoints, in the order of updates."""
    path = root / "models/checkpoints/index.json"
    return list(read_json(path)["checkpoints"]) if path.exists() else []


def score(
    client: MlflowClient, model_id: str, run_id: str, *, step: int, result: Mapping[str, Any], data: EvaluationSet
) -> None:
    """Writes one policy's entry of metrics/summary.json on its logged model, once."""
    known = {(m.key, m.step, m.value, m.dataset_digest) for m in client.get_logged_model(model_id).metrics or ()}
    low, high = result["success_ci"]
    values = {**result, "success_low": low, "success_high": high}
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or key == "environment_steps":
            continue
        name = f"evaluate/{key}"
        if math.isfinite(value) and (name, step, float(value), data.digest) not in known:
            client.log_metric(
                run_id, name, float(value), step=step, model_id=model_id, dataset_name=data.name,
                dataset_digest=data.digest,
            )  # fmt: skip


def ranked(client: MlflowClient, env: str | None = None, limit: int = 20) -> list[LoggedModel]:
    """Logged policies with a score, the best success first."""
    only = f"tags.env = '{env}'" if env else None
    best_first = [{"field_name": f"metrics.{SUCCESS}", "ascending": False}]
    found = client.search_logged_models([experiment_id(client)], only, order_by=best_first, max_results=limit)
    return [model for model in found if success(model) is not None]


def success(model: LoggedModel) -> float | None:
    """The last score of a logged model."""
    return next((float(m.value) for m in reversed(model.metrics or ()) if m.key == SUCCESS), None)
