"""The benchmarks of registered versions: what they scored, kept where a version is looked at.

A version may run a benchmark more than once: short and full, on synthetic and on published data. Each run has a tag
`benchmark.<name>.<digest>`, of everything that decides the benchmark besides the model, and its records in the run. The
tag `benchmark.<name>` and the metrics `benchmarks/<name>` of the run and of the logged model are those of the run that
says most: published data before synthetic, full before short, more records before fewer.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from benchmarks.harness import registry
from pipelines.core.project import Lock, read_json
from pipelines.tracking import exports
from pipelines.tracking.datasets import EvaluationSet, log_input
from pipelines.tracking.exports import CONTENT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

#: Every benchmark that is known, and those of the stage `benchmark`, each of which has a synthetic set, so that it runs
#: without published data.
NAMES = registry.names()
STAGES = registry.names(default=True)


def _known(name: str) -> str:
    return registry.get(name).name


#: Of a flow's parameter: Prefect's form offers the benchmarks that are known.
Name = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(NAMES)})]

TAG = "benchmark."
SUMMARY = "summary.json"
#: Where the stages `benchmark` leave the results of a policy.
HOMES = {"base": "scores/base", "trained": "scores/trained"}


def recorded(tags: Mapping[str, str], benchmark: str, policy: str = "trained") -> dict[str, Any] | None:
    """What a version's tags say of the run of a benchmark that says most.

    Args:
        tags: of the version.
        benchmark: its name.
        policy: the version itself, or the `base` that it was trained from.

    Returns:
        score, standard_error, count, synthetic, profile, digest, and where the records lie; None if there is none.
    """
    text = tags.get(_tag(benchmark, policy))
    return None if text is None else dict(json.loads(text))


def benchmark_runs(tags: Mapping[str, str], benchmark: str, policy: str = "trained") -> dict[str, dict[str, Any]]:
    """Every run of a benchmark that a version's tags tell of, by digest; see `recorded`."""
    own = _tag(benchmark, policy)
    found = (json.loads(text) for tag, text in tags.items() if tag == own or tag.startswith(f"{own}."))
    return {kept["digest"]: kept for kept in found}


def comparable(versions: Sequence[Mapping[str, str]], benchmark: str) -> list[dict[str, Any] | None]:
    """The runs by which versions are compared: of one benchmark that all have run, or else what each is known by.

    Args:
        versions: their tags.
        benchmark: its name.
    """
    found = [benchmark_runs(tags, benchmark) for tags in versions]
    common = set.intersection(*(set(kept) for kept in found))
    if not common:
        return [recorded(tags, benchmark) for tags in versions]
    best = max(common, key=lambda digest: (_rank(found[0][digest]), digest))
    return [kept[best] for kept in found]


def kind(kept: Mapping[str, Any]) -> str:
    """Which run it was, in words."""
    return f"{kept['profile']}, {'synthetic' if kept['synthetic'] else 'published data'}"


def _rank(kept: Mapping[str, Any]) -> tuple[bool, bool, int]:
    """How much a run says; the greater, the more."""
    return not kept["synthetic"], kept["profile"] == "full", kept["count"]


def _tag(benchmark: str, policy: str) -> str:
    return f"{TAG}{benchmark}" if policy == "trained" else f"{TAG}{policy}.{benchmark}"


def summaries(directory: Path) -> dict[str, dict[str, Any]]:
    """The summary of each finished benchmark in a directory, by the benchmark's name."""
    return {path.parent.name: read_json(path) for path in sorted(directory.glob(f"*/{SUMMARY}"))}


def digest(summary: Mapping[str, Any]) -> str:
    """32 hex digits of everything that decides a benchmark besides the model."""
    return hashlib.sha256(json.dumps(summary["identity"], sort_keys=True).encode()).hexdigest()[:32]


def record_present(client: MlflowClient, root: Path, version: ModelVersion, lock: Lock) -> None:
    """Keeps the scores of models/policy and of its base with its version; scores of other weights are left alone.

    Args:
        client: of a server within reach.
        root: the project.
        version: of the present models/policy.
        lock: dvc.lock.
    """
    weights = lock.out("train", "models/policy")
    finished = {policy: summaries(root / home) for policy, home in HOMES.items()}
    for name in finished["trained"]:
        if lock.dep(f"benchmark@{name}", "models/policy") == weights:
            for policy, results in finished.items():
                if name in results:
                    record(client, version, results[name], root / HOMES[policy] / name, policy=policy)


def record(
    client: MlflowClient, version: ModelVersion, summary: Mapping[str, Any], directory: Path, *, policy: str = "trained"
) -> bool:
    """Keeps one run of a benchmark with a version, once; other runs of the same benchmark stay beside it.

    Args:
        client: of a server within reach.
        version: that was benchmarked, or whose base was.
        summary: what summary.json of the benchmark holds.
        directory: with summary.json and records.jsonl.
        policy: `trained` for the version itself, `base` for what it was trained from.

    Returns:
        Whether it was new.
    """
    name, run_id, number = str(summary["benchmark"]), version.run_id, str(version.version)
    which = digest(summary)
    short = which[:8]  # enough to tell the few runs of a version apart
    kept = {key: summary[key] for key in ("score", "standard_error", "count", "synthetic")}
    kept |= {"profile": summary["identity"].get("profile"), "digest": which}
    kept["records"] = f"benchmarks/version-{number}/{policy}/{name}/{short}"
    tag, text = f"{_tag(name, policy)}.{short}", json.dumps(kept, sort_keys=True)
    if version.tags.get(tag) == text:
        return False
    shown = recorded(version.tags, name, policy)
    first = shown is None or shown["digest"] == which or _rank(kept) >= _rank(shown)
    data = EvaluationSet(summary["title"], which, dict(summary["identity"]))
    log_input(client, run_id, data)
    logged = exports.find(client, version.tags[CONTENT]) if policy == "trained" else None
    prefix = "/".join(["benchmarks", *([policy] if policy != "trained" else []), *([] if first else [short])])
    step = int(logged.params.get("environment_steps", 0)) if logged is not None else 0
    for key, value in scores(summary):
        client.log_metric(
            run_id, f"{prefix}/{key}", value, step=step, model_id=logged.model_id if logged is not None else None,
            dataset_name=data.name, dataset_digest=data.digest,
        )  # fmt: skip
    for file in (SUMMARY, "records.jsonl"):
        with exports.dereferenced(directory / file) as plain:
            client.log_artifact(run_id, str(plain), kept["records"])
    if first:
        client.set_model_version_tag(version.name, number, _tag(name, policy), text)
    client.set_model_version_tag(version.name, number, tag, text)  # last: without it, all of this is done again
    return True


def download(client: MlflowClient, version: ModelVersion, kept: Mapping[str, Any], out: Path) -> None:
    """Brings summary.json and records.jsonl of a run that is kept with a version; `out` is named as the benchmark."""
    # Versions that were registered when a benchmark could be kept once only do not say where it is.
    home = kept.get("records", f"benchmarks/version-{version.version}/trained/{out.name}")
    found = client.download_artifacts(version.run_id, home, str(out.parent))
    shutil.move(found, out)


def scores(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The score of a benchmark and of each of its tasks, in percent, by `<benchmark>` and `<benchmark>/<task>`."""
    yield summary["benchmark"], float(summary["score"])
    for task, result in summary["tasks"].items():
        yield f"{summary['benchmark']}/{_metric(task)}", float(result["score"])


def _metric(task: str) -> str:
    """A task as a metric's name may be written: MLflow takes letters, digits, and _ - . space : /."""
    return "".join(letter if letter.isalnum() or letter in "_-. " else "-" for letter in task)
