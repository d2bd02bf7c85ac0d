"""The evaluation set of an environment as MLflow knows it: which episodes, told apart by a digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.vector import evaluation_seeds
from vldac.config import Config

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class EvaluationSet:
    """Episodes of one environment on fixed seeds.

    Attributes:
        name: the environment's, and what it is for.
        digest: 32 hex digits of everything that decides the episodes, the environment's own code and pixels included.
        description: the same in words and numbers.
    """

    name: str
    digest: str
    description: dict[str, Any]


def evaluation_set(root: Path, config: Config, episodes: int) -> EvaluationSet:
    """The first `episodes` evaluation episodes of the configured environment."""
    seeds = evaluation_seeds(episodes, 1)
    manifest = hashlib.sha256((root / "data/environment/manifest.json").read_bytes()).hexdigest()
    description = {
        "env": config.env.id,
        "options": config.env.make_options,
        "manifest_sha256": manifest,
        "episodes": episodes,
        "seeds": [seeds(0, 0), seeds(0, episodes - 1)],
    }
    every = [seeds(0, episode) for episode in range(episodes)]
    text = json.dumps([description, every], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return EvaluationSet(f"{config.env.id} evaluation", digest, description)


def log_input(client: MlflowClient, run_id: str, data: EvaluationSet) -> None:
    """Ties an evaluation set to a run; the same one again changes nothing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415  # seconds to import

    described = json.dumps(data.description, sort_keys=True)
    dataset = Dataset(data.name, data.digest, source_type="code", source=described, profile=described)
    known = {(i.dataset.name, i.dataset.digest) for i in client.get_run(run_id).inputs.dataset_inputs}
    if (data.name, data.digest) not in known:
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])])
