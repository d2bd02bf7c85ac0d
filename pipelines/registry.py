"""The model registry: one version for each distinct policy, with everything needed to make it again.

Registering and promoting are idempotent: the same weights have the same content hash, and a version that carries it is
never made twice. Aliases say what a version is for: @candidate is the last one trained, @champion the best one shown.
"""

from __future__ import annotations

import base64
import io
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import tracking
from pipelines.cli import PipelineError
from pipelines.project import content_hash, family, read_json, read_lock, revision
from pipelines.rundir import RunIdentity
from vldac.config import Config

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
CONTENT = "content.sha256"
#: What a model needs beside its own files, at the versions that trained it.
REQUIREMENTS = (
    *("mlflow", "torch", "transformers", "peft", "safetensors", "tokenizers"),
    *("numpy", "pillow", "pydantic", "pyyaml", "gymnasium"),
)


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes:
        name: of the registered model.
        version: its number, as MLflow writes it.
        new: whether this call made it.
    """

    name: str
    version: str
    new: bool


@dataclass(frozen=True)
class Score:
    """Success of a policy on unseen episodes.

    Attributes:
        success: share of episodes, in [0, 1].
        low, high: its 95% confidence interval.
    """

    success: float
    low: float
    high: float

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Score:
        """From one policy's entry of metrics/summary.json."""
        low, high = result["success_ci"]
        return cls(float(result["success"]), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.success:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes the champion, and why."""

    promote: bool
    reason: str


@dataclass(frozen=True)
class Promotion:
    """What became of a candidate."""

    registered: Registered
    decision: Decision
    champion: str | None


def decide(candidate: Score, champion: Score | None) -> Decision:
    """The rule of promotion: a champion is only replaced by what is better beyond doubt.

    Args:
        candidate: the new policy's score.
        champion: that of the present champion on the same kind of episodes; None where there is no champion.
    """
    if champion is None:
        return Decision(True, f"there was no champion; success {candidate}")
    compared = f"success {candidate} against the champion's {champion}"
    if candidate.success <= champion.success:
        return Decision(False, f"not better: {compared}")
    if candidate.low <= champion.high:
        return Decision(False, f"better, but the 95% intervals overlap: {compared}")
    return Decision(True, f"better, and the 95% intervals do not overlap: {compared}")


def model_name(root: Path, config: Config) -> str:
    """`vldac-<environment>-<family>`: versions of one name do the same job and may be compared."""
    return "-".join(("vldac", _slug(config.env.id), _slug(family(root))))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-")


def register(root: Path, config: Config) -> Registered:
    """Brings the training's MLflow run up to date and registers models/policy as @candidate.

    Raises:
        PipelineError: a stage has not run, or MLflow cannot be used.
    """
    policy, base = root / "models/policy", root / "models/base"
    name, content = model_name(root, config), content_hash(policy)
    train = read_json(root / "runs/train.json")
    identity = RunIdentity(train["run_key"], train["fingerprint"], train["started_ms"])
    with tracking.reachable(root):
        client = tracking.client(root)
        version = _find(client, name, content)
        if version is None:
            run_id = tracking.send_all(client, _metrics(root, identity), identity, tracking.details(root, config))
            tags = _lineage(root, config, content, identity)
            model_id = _logged_model(client, content) or _log_model(root, run_id, policy, base, tags)
            _create_registered_model(client, name)
            made = client.create_model_version(
                name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
            )
            registered = Registered(name, str(made.version), new=True)
        else:
            registered = Registered(name, str(version.version), new=False)
        client.set_registered_model_alias(name, CANDIDATE, registered.version)
    return registered


def _metrics(root: Path, identity: RunIdentity) -> Path:
    """The run's metrics: in its directory, or where a later run of the same fingerprint has moved them."""
    archived = root / "runs" / f"{identity.fingerprint}-{identity.run_key[:8]}"
    return (archived if archived.exists() else root / "runs" / identity.fingerprint) / "metrics.jsonl"


def _find(client: MlflowClient, name: str, content: str) -> ModelVersion | None:
    """The version of these very weights."""
    found = client.search_model_versions(f"name='{name}' and tags.`{CONTENT}`='{content}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _logged_model(client: MlflowClient, content: str) -> str | None:
    """A model that was logged by a registration that did not get as far as its version."""
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    found = client.search_logged_models([experiment.experiment_id], f"tags.`{CONTENT}` = '{content}'")
    return next((model.model_id for model in found if str(model.status) == "READY"), None)


def _lineage(root: Path, config: Config, content: str, identity: RunIdentity) -> dict[str, str]:
    """From a version back to its data: what `git checkout` and `dvc repro` need to make it again."""
    lock, at = read_lock(root), revision(root)
    return {
        CONTENT: content,
        "dvc.md5": lock.out("train", "models/policy") or "",
        "dvc.path": "models/policy",
        "dvc.lock.md5": lock.md5,
        "dvc.base.md5": lock.out("base", "models/base") or "",
        "dvc.worlds.md5": lock.out("worlds", "data/worlds/manifest.json") or "",
        "git.revision": at.commit,
        "git.dirty": str(at.dirty).lower(),
        "env": config.env.id,
        "seed": str(config.seed),
        "model.base": config.model.base,
        "model.revision": config.model.revision or "",
        "params": json.dumps(config.model_dump(mode="json"), sort_keys=True),
        tracking.RUN_KEY: identity.run_key,
        "vldac.fingerprint": identity.fingerprint,
    }


def _create_registered_model(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name, description="A vision-language policy trained by VL-DAC.")


def _log_model(root: Path, run_id: str, policy: Path, base: Path, tags: Mapping[str, str]) -> str:
    """Logs the policy with its base (of a hub model: its name and revision) and the code that runs it."""
    import mlflow  # noqa: PLC0415
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema  # noqa: PLC0415
    from mlflow.types.schema import AnyType  # noqa: PLC0415

    text = DataType.string
    signature = ModelSignature(
        inputs=Schema([ColSpec(AnyType(), "image"), ColSpec(text, "instruction")]),
        outputs=Schema([ColSpec(text, "action", False), ColSpec(text, "thoughts", False), ColSpec(text, "text")]),
        params=ParamSchema([ParamSpec("temperature", DataType.double, 0.0), ParamSpec("seed", DataType.long, 0)]),
    )
    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow tries the model on the example, and libraries chatter as they load it
        logged = mlflow.pyfunc.log_model(
            name="policy",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"policy": str(policy), "base": str(base)},
            code_paths=[str(root / "vldac"), str(root / "envs")],
            pip_requirements=[f"{package}=={metadata.version(package)}" for package in REQUIREMENTS],
            signature=signature,
            input_example={"image": _blank_png(), "instruction": "Which action leads to the red box?"},
            tags=dict(tags),
        )
    return str(logged.model_id)


def _blank_png(width: int = 64, height: int = 48) -> str:
    """A grey picture as base64 text, to show the form of an input."""
    from PIL import Image  # noqa: PLC0415

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (128, 128, 128)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def promote(root: Path, config: Config) -> Promotion:
    """Writes the evaluation's scores on the version of models/policy and lets it become @champion if it is better.

    Raises:
        PipelineError: the evaluation is of other weights, nothing is registered, or MLflow cannot be used.
    """
    summary, lock = read_json(root / "metrics/summary.json"), read_lock(root)
    if lock.dep("evaluate", "models/policy") != lock.out("train", "models/policy"):
        raise PipelineError("metrics/summary.json is not of the present models/policy; run `dvc repro evaluate`")
    name, content = model_name(root, config), content_hash(root / "models/policy")
    with tracking.reachable(root):
        client = tracking.client(root)
        version = _find(client, name, content)
        if version is None:
            raise PipelineError(f"models/policy has no version in {name}; run the register step first")
        number = str(version.version)
        _record(client, version, summary, lock.md5)
        champion = _champion(client, name)
        if champion is not None and str(champion.version) == number:
            reason = champion.tags.get("promotion.reason", "it is the champion already")
            decision = Decision(False, reason)
        else:
            decision = decide(Score.of(summary["trained"]), _score(champion))
            client.set_model_version_tag(name, number, "promotion.reason", decision.reason)
            client.set_model_version_tag(name, number, "promotion.promoted", str(decision.promote).lower())
            if decision.promote:
                client.set_registered_model_alias(name, CHAMPION, number)
        now = number if decision.promote else str(champion.version) if champion else None
    return Promotion(Registered(name, number, new=False), decision, now)


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    number = client.get_registered_model(name).aliases.get(CHAMPION)
    return client.get_model_version(name, str(number)) if number is not None else None


def _score(version: ModelVersion | None) -> Score | None:
    """The score that a version was tagged with; a champion that nobody evaluated counts as none."""
    text = version.tags.get("evaluate.trained") if version is not None else None
    return Score.of(json.loads(text)) if text else None


def _record(client: MlflowClient, version: ModelVersion, summary: Mapping[str, Any], lock_md5: str) -> None:
    """Tags the version with each policy's scores and gives its run the same numbers as metrics, once an evaluation."""
    tags = {
        **{f"evaluate.{policy}": json.dumps(summary[policy]) for policy in ("random", "base", "trained")},
        "evaluate.success": str(summary["trained"]["success"]),
        "evaluate.dvc.lock.md5": lock_md5,
    }
    if all(version.tags.get(key) == value for key, value in tags.items()):
        return
    for policy in ("random", "base", "trained"):
        for key, value in summary[policy].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                client.log_metric(version.run_id, f"evaluate/{policy}/{key}", float(value), model_id=version.model_id)
    for key, value in tags.items():
        client.set_model_version_tag(version.name, str(version.version), key, value)
