"""What a version says of itself: pictures and description on MLflow's pages, and a model card of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.scores import plus_minus
from pipelines.core import tables
from pipelines.tracking import benchmark_scores, runs
from pipelines.tracking.exports import CONTENT
from pipelines.tracking.promotion import Score
from vldac.config import Config
from vldac.utils.pictures import read_picture

if TYPE_CHECKING:
    from huggingface_hub import EvalResult
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

#: What a person looks for on the page of a run, as DVC's stages write it.
_ATTACHED = ("plots/learning_curve.png", "plots/filmstrip.png", "plots/learning_curve.csv", "metrics/summary.json")
#: The picture in a description, which MLflow shows at its own size.
_CURVE = "plots/learning_curve_small.png"
_WIDTH = 640  # pixels
_POLICIES = ("random", "base", "trained")


def attach(client: MlflowClient, root: Path, config: Config, run_id: str) -> None:
    """Gives a run its pictures, its table and its parameters as artifacts."""
    client.log_dict(run_id, config.model_dump(mode="json"), "params.yaml")
    for path in (root / name for name in _ATTACHED):
        if path.is_file():
            client.log_artifact(run_id, str(path), path.parent.name)
    if (curve := root / "plots/learning_curve.png").is_file():
        from PIL import Image  # noqa: PLC0415

        picture = Image.fromarray(read_picture(curve))
        picture.thumbnail((_WIDTH, 2 * _WIDTH))
        client.log_image(run_id, picture, artifact_file=_CURVE)


def describe(config: Config, summary: Mapping[str, Any], run_id: str, step: int) -> str:
    """The description of a version and of its run: one line, which lists show alone, the table and the curve.

    Args:
        config: of the run.
        summary: metrics/summary.json.
        run_id: of MLflow's run, which has the curve.
        step: environment steps of training.
    """
    score, episodes = Score.of(summary["trained"]), summary["trained"]["episodes"]
    line = f"Success {score} on {episodes} unseen episodes; {step:,} steps, seed {config.seed}."
    base = "a base built here" if config.model.base == "tiny" else config.model.base
    about = f"{config.env.id}, {config.train.algorithm} from {base}."
    table = tables.markdown(summary, acts=tables.base_acts(config.model_dump()))
    picture = f"get-artifact?path={_CURVE.replace('/', '%2F')}&run_uuid={run_id}"  # of the server that shows the page
    return f"{line} {about}\n\n{table}\n\n![Success against environment steps]({picture})\n"


def card(version: ModelVersion) -> str:
    """The model card of a version, from its tags: README.md with the metadata that Hugging Face's hub reads.

    Scores are there once the version was evaluated.
    """
    from huggingface_hub import ModelCard, ModelCardData  # noqa: PLC0415

    tags, params = version.tags, _Params(json.loads(version.tags["params"]))
    name = f"{version.name} version {version.version}"
    data = ModelCardData(
        model_name=name,
        language="en",
        library_name="vldac",
        pipeline_tag="image-text-to-text",
        tags=["vl-dac", "reinforcement-learning", "vision-language-model", params["env.id"]],
        base_model=None if params.tiny else params["model.base"],
        eval_results=list(_results(params, tags)) or None,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(name, params, tags)}"))


class _Params:
    """The parameters of a version by `section.key`; one that an older version did not have is unknown.

    Attributes:
        tiny: whether its base was built here.
        acts: how that base was taught to act.
        mixture: whether it was taught in several environments.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._flat = runs.flatten(values)
        self.tiny, self.acts = self["model.base"] == "tiny", tables.base_acts(values)
        self.mixture = bool(values.get("warm_start", {}).get("mixture"))

    def __getitem__(self, key: str) -> str:
        return self._flat.get(key, "unknown")


def _results(params: _Params, tags: Mapping[str, str]) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult  # noqa: PLC0415

    if (text := tags.get("evaluate.trained")) is not None:
        result = json.loads(text)
        for metric, unit in (("success", "success rate"), ("return", "mean return"), ("steps_to_goal", "mean steps")):
            yield EvalResult(
                task_type="reinforcement-learning",
                dataset_type=params["env.id"],
                dataset_name=f"{params['env.id']}, {result['episodes']} unseen episodes",
                metric_type=metric,
                metric_name=unit,
                metric_value=result[metric],
            )


def _text(name: str, params: _Params, tags: Mapping[str, str]) -> str:
    results = {policy: json.loads(tags[f"evaluate.{policy}"]) for policy in _POLICIES if f"evaluate.{policy}" in tags}
    scores = "Not evaluated yet."
    if len(results) == len(_POLICIES):
        scores = (
            f"{tables.markdown(results, acts=params.acts)}\n\nSampled at temperature "
            f"{params['rollout.temperature']} on seeds that training never drew; 95% Wilson intervals; an episode that "
            "fails counts with all its steps."
        )
    if benchmarks := _benchmarks(tags):
        scores += f"\n\n{benchmarks}"
    rank, dirty = params["model.lora_rank"], tags.get("git.dirty") == "true"
    return f"""# {name}

A vision-language policy: it is shown pictures of `{params["env.id"]}` and a prompt, and answers with its thoughts and
an action, as JSON. It learned from reward, by the algorithm `{params["train.algorithm"]}` of
[VL-DAC](https://arxiv.org/abs/2508.04280)'s pipeline, in {params["train.total_steps"]} environment steps at most, with
seed {params["seed"]}.

- Base: {_base(params)}.
- Weights: {"all of the model's" if rank == "0" else f"a LoRA adapter of rank {rank}"}, and a value head;
  {params["model.dtype"]}; safetensors.
- Data: episodes of the environment and nothing else, in {params["env.num_envs"]} simulators; pictures of
  {params["env.width"]} x {params["env.height"]} pixels, prompt style `{params["env.prompt"]}`.

## Scores

{scores}

## Limits

It was trained and evaluated in one environment, and nothing is known of it elsewhere beyond the scores above.
{_limits(params)} An answer need not name a legal action: whoever acts on answers must check them.

## Use

FOLDER is this folder, or `hf://OWNER/NAME` where this is a repository of the hub; `pull` verifies the hashes.

```
vldac models pull FOLDER model
vldac evaluate --params model/params.yaml --base model/base --policy model/policy
vldac benchmark model/policy --benchmark understanding
```

`policy/` holds the trained weights, `base/` the base model or its name, `params.yaml` every parameter.

## Origin

| | |
|---|---|
| git revision | `{tags.get("git.revision", "unknown")}`{", with changes that were not committed" if dirty else ""} |
| sha256 of policy/ | `{tags.get(CONTENT, "unknown")}` |
| sha256 of base/ | `{tags.get("base.sha256", "unknown")}` |
| DVC hash of policy/ | `{tags.get("dvc.md5", "unknown")}` |
"""


def _base(params: _Params) -> str:
    if params.tiny:
        family = params["model.tiny.family"]
        environments = "in a mixture of environments" if params.mixture else "for this environment"
        return f"a {family} of a few million parameters, built and warm-started {environments}; it {params.acts}"
    revision = params["model.revision"]
    return params["model.base"] + ("" if revision == "null" else f" at revision {revision}")


def _limits(params: _Params) -> str:
    if not params.tiny:
        return "What its base cannot do, or should not be used for, holds for it too."
    environments = "a few environments" if params.mixture else "this environment"
    return (
        f"Its base was built from nothing, on descriptions of {environments}: it knows no other pictures, and no "
        "language but that of its prompts."
    )


def _benchmarks(tags: Mapping[str, str]) -> str:
    rows = []
    for benchmark in benchmark_scores.NAMES:
        kept = {policy: benchmark_scores.recorded(tags, benchmark, policy) for policy in ("base", "trained")}
        if (own := kept["trained"]) is None:
            continue
        cells = ["-" if found is None else plus_minus(found, "±").strip() for found in kept.values()]
        rows.append(f"| {benchmark} ({benchmark_scores.kind(own)}) | {cells[0]} | {cells[1]} | {own['count']} |")
    if not rows:
        return ""
    head = "| benchmark, in percent | base model | trained model | records |\n|---|---:|---:|---:|"
    return "\n".join([head, *rows])
