"""Two registered versions on the same episodes, and what that says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.errors import PipelineError
from pipelines.evaluation import versions
from pipelines.evaluation.versions import Version
from pipelines.tracking import registry, runs
from vldac.config import Config, parse
from vldac.evaluation.paired import PairedSuccess, paired_success

if TYPE_CHECKING:
    from mlflow import MlflowClient


def compare(
    root: Path, first: Version, second: Version, *, episodes: int | None = None, say: Callable[[str], None]
) -> PairedSuccess:
    """Plays both on the same episodes with the same draws, and keeps the result with the second.

    Args:
        root: the project.
        first: such as the champion; its seed and number of episodes are those of the comparison.
        second: such as the candidate.
        episodes: None takes the number of the first's parameters.
        say: takes every line that the evaluations print.

    Raises:
        PipelineError: they cannot be fetched or evaluated, or act in different environments.
    """
    configs = _configs(root, first, second, episodes)
    played = [
        _successes(versions.evaluate(root, version, config, say, policies=("trained",)))
        for version, config in zip((first, second), configs, strict=True)
    ]
    seeds = sorted(played[0].keys() & played[1].keys())  # one that was lost with its simulator counts for neither
    if not seeds:
        raise PipelineError(f"{first} and {second} have no episode in common: all were lost with their simulators")
    found = paired_success([played[0][seed] for seed in seeds], [played[1][seed] for seed in seeds])
    with runs.reachable(root):
        _keep(runs.client(root), first, second, found)
    return found


def _configs(root: Path, first: Version, second: Version, episodes: int | None) -> tuple[Config, Config]:
    """Each by its own model and by what it is shown, both by the first's seed and number of episodes."""
    config = versions.evaluation_config(root, first, None, episodes)
    values, own = config.model_dump(mode="json"), second.config.model_dump(mode="json")
    if different := registry.other_world(values["env"], own["env"]):
        raise PipelineError(
            f"{first} and {second} differ in {', '.join(f'env.{name}' for name in different)}; compare versions of one "
            "environment"
        )
    return config, parse(own | {name: values[name] for name in ("seed", "evaluate")})


def _successes(directory: Path) -> dict[int, bool]:
    """By seed, whether an episode succeeded."""
    lines = (directory / "episodes/trained.jsonl").read_text(encoding="utf-8").splitlines()
    return {int(episode["seed"]): bool(episode["success"]) for episode in map(json.loads, lines)}


def _keep(client: MlflowClient, first: Version, second: Version, found: PairedSuccess) -> None:
    text = json.dumps({**asdict(found), "with": f"{first.name}/{first.number}"})
    client.set_model_version_tag(second.name, second.number, f"{registry.COMPARED}{first.name}.{first.number}", text)
    if second.run_id is not None:
        for name, value in (("difference", found.difference), ("low", found.low), ("high", found.high)):
            client.log_metric(second.run_id, f"compared/{first.name}/{first.number}/{name}", value)


def summaries(tags: Mapping[str, str]) -> list[str]:
    """What a version's tags tell of the comparisons with others, a line each."""
    lines = []
    for tag in sorted(tag for tag in tags if tag.startswith(registry.COMPARED)):
        kept = json.loads(tags[tag])
        against = kept.pop("with")
        lines.append(f"against {against} on the same episodes: {PairedSuccess(**kept)}")
    return lines


def row(first: Version, second: Version, found: PairedSuccess) -> dict[str, str]:
    """The comparison as a row of a table."""
    return {
        "first": f"{first.name}/{first.number}",
        "success of the first": f"{found.first:.3f}",
        "second": f"{second.name}/{second.number}",
        "success of the second": f"{found.second:.3f}",
        "difference [95% interval]": f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]",
        "only the first": str(found.only_first),
        "only the second": str(found.only_second),
        "episodes": str(found.episodes),
        "McNemar's p": f"{found.p_value:.2g}",
    }


def verdict(first: Version, second: Version, found: PairedSuccess) -> str:
    """What a comparison says, in a sentence."""
    a, b = (f"{version.name}/{version.number}" for version in (first, second))
    if found.low > 0 or found.high < 0:
        better, worse = (b, a) if found.low > 0 else (a, b)
        return f"{better} succeeds more often than {worse}: {b} by {found}"
    return f"this does not say which is better: {b} by {found}"
