"""The exams of registered versions: what they scored, kept where a version is looked at.

A version's tag `exam.<name>` holds the score; its logged model and its run have one metric for each exam and task, tied
to a dataset with the exam's digest; the run keeps the records, every question with its answer.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import checkpoints
from pipelines.checkpoints import CONTENT
from pipelines.cli import PipelineError
from pipelines.datasets import EvaluationSet, log_input
from pipelines.project import Lock, read_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

TAG = "exam."
#: Where the stages `exam` leave the results of a policy.
HOMES = {"base": "exams/base", "trained": "exams/trained"}


def recorded(tags: Mapping[str, str], exam: str, policy: str = "trained") -> dict[str, Any] | None:
    """What a version's tags say of an exam: score, standard_error, count, synthetic, profile, digest.

    Args:
        tags: of the version.
        exam: its name.
        policy: the version itself, or the `base` that it was trained from.
    """
    text = tags.get(_tag(exam, policy))
    return None if text is None else dict(json.loads(text))


def _tag(exam: str, policy: str) -> str:
    return f"{TAG}{exam}" if policy == "trained" else f"{TAG}{policy}.{exam}"


def summaries(directory: Path) -> dict[str, dict[str, Any]]:
    """The summary of each exam that was sat in a directory, by the exam's name."""
    return {path.parent.name: read_json(path) for path in sorted(directory.glob("*/summary.json"))}


def digest(summary: Mapping[str, Any]) -> str:
    """32 hex digits of everything that decides an exam besides the model."""
    return hashlib.sha256(json.dumps(summary["identity"], sort_keys=True).encode()).hexdigest()[:32]


def record_present(client: MlflowClient, root: Path, version: ModelVersion, lock: Lock) -> None:
    """Keeps the exams of models/policy and of its base with its version; exams of other weights are left alone.

    Args:
        client: of a server within reach.
        root: the project.
        version: of the present models/policy.
        lock: dvc.lock.
    """
    weights = lock.out("train", "models/policy")
    for name, summary in summaries(root / HOMES["trained"]).items():
        if lock.dep(f"exam@{name}", "models/policy") == weights:
            record(client, version, summary, root / HOMES["trained"] / name)
            base = root / HOMES["base"] / name
            record(client, version, read_json(base / "summary.json"), base, policy="base")


def record(
    client: MlflowClient, version: ModelVersion, summary: Mapping[str, Any], directory: Path, *, policy: str = "trained"
) -> bool:
    """Keeps one exam with a version, once.

    Args:
        client: of a server within reach.
        version: that was examined, or whose base was.
        summary: what summary.json of the exam holds.
        directory: with summary.json and records.jsonl.
        policy: `trained` for the version itself, `base` for what it was trained from.

    Returns:
        Whether it was new.
    """
    name = str(summary["exam"])
    kept = {key: summary[key] for key in ("score", "standard_error", "count", "synthetic")}
    kept |= {"profile": summary["identity"].get("profile"), "digest": digest(summary)}
    if recorded(version.tags, name, policy) == kept:
        return False
    run_id, number = version.run_id, str(version.version)
    data = EvaluationSet(summary["title"], kept["digest"], dict(summary["identity"]))
    log_input(client, run_id, data)
    logged = checkpoints.find(client, version.tags[CONTENT]) if policy == "trained" else None
    prefix = "exams" if policy == "trained" else f"exams/{policy}"
    step = int(logged.params.get("environment_steps", 0)) if logged is not None else 0
    for key, value in scores(summary):
        client.log_metric(
            run_id, f"{prefix}/{key}", value, step=step, model_id=logged.model_id if logged is not None else None,
            dataset_name=data.name, dataset_digest=data.digest,
        )  # fmt: skip
    for file in ("summary.json", "records.jsonl"):
        client.log_artifact(run_id, str(directory / file), f"exams/version-{number}/{policy}/{name}")
    client.set_model_version_tag(version.name, number, _tag(name, policy), json.dumps(kept, sort_keys=True))
    return True


def download(client: MlflowClient, version: ModelVersion, out: Path) -> None:
    """Brings every exam that is kept with a version into `out`, a folder an exam.

    Raises:
        PipelineError: it has sat none.
    """
    home = f"exams/version-{version.version}/trained"
    folders = [item.path for item in client.list_artifacts(version.run_id, home) if item.is_dir]
    if not folders:
        raise PipelineError(
            f"{version.name} version {version.version} has sat no exam; "
            f"make evaluate MODEL=models:/{version.name}/{version.version}"
        )
    for folder in folders:
        found = client.download_artifacts(version.run_id, folder, str(out.parent))
        shutil.move(found, out / Path(folder).name)


def scores(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The score of an exam and of each of its tasks, in percent, by `<exam>` and `<exam>/<task>`."""
    yield summary["exam"], float(summary["score"])
    for task, result in summary["tasks"].items():
        yield f"{summary['exam']}/{_metric(task)}", float(result["score"])


def _metric(task: str) -> str:
    """A task as a metric's name may be written: MLflow takes letters, digits, and _ - . space : /."""
    return "".join(letter if letter.isalnum() or letter in "_-. " else "-" for letter in task)
