"""`vldac models`: the registered models, from a terminal.

What each command takes is declared in `pipelines.commands.cli`; here it returns the lines that are printed.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.scores import plus_minus
from pipelines.commands import pages
from pipelines.core import errors, network
from pipelines.evaluation import comparison, versions
from pipelines.stages.repro import call, environment
from pipelines.tracking import benchmark_scores, exports, hub, lineage, registry, runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def list_versions(env: str | None, *, checkpoints: bool) -> list[str]:
    """Versions with their aliases and scores, or every logged policy, the best first; `env` narrows both down."""
    with runs.reachable(Path.cwd()):
        client = runs.client(Path.cwd())
        return _checkpoints(client, env) if checkpoints else _models(client, env)


def compare(a: str, b: str) -> list[str]:
    """Two versions side by side, and in what their parameters differ."""
    with runs.reachable(Path.cwd()):
        client = runs.client(Path.cwd())
        return _compare([lineage.find(client, text) for text in (a, b)])


def play(a: str, b: str, episodes: int) -> list[str]:
    """Plays two versions on the same episodes, and keeps the result with the second."""
    root = Path.cwd()
    first, second = (_version(root, text) for text in (a, b))
    found = comparison.compare(root, first, second, episodes=episodes, say=lambda line: print(line, flush=True))
    lines = [
        f"{version.name}/{version.number}: success {success:.3f}, in {alone} episodes alone"
        for version, success, alone in (
            (first, found.first, found.only_first),
            (second, found.second, found.only_second),
        )
    ]
    return ["", *lines, comparison.verdict(first, second, found)]


def serve(model: str, *, host: str, port: int, batch_size: int, queue: int, patience: float) -> None:
    """Serves a policy over HTTP until Ctrl-C.

    Raises:
        PipelineError: there is no such policy, the port is taken, or other machines are let in without a token.
    """
    import uvicorn  # noqa: PLC0415  # these take seconds

    from pipelines.evaluation import serving  # noqa: PLC0415

    token = os.environ.get(serving.TOKEN) or None
    if host not in network.LOOPBACK and token is None:
        raise errors.PipelineError(
            f"--host {host} lets other machines in, but {serving.TOKEN} is not set; set it, or leave --host out"
        )
    pages.free(port, host, f"vldac models serve --port {port + 1}")
    limits = {"size": batch_size, "capacity": queue, "patience": patience, "token": token}
    with serving.opened(Path.cwd(), model, host=host, **limits) as (name, application):
        print(f"{name} answers at http://{host}:{port}/act (/health, /ready, /metrics; Ctrl-C stops it)", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # after uvicorn, which sends it once more when it is done
        with suppress(KeyboardInterrupt):
            uvicorn.run(
                application,
                host=host,
                port=port,
                log_level="warning",
                timeout_graceful_shutdown=math.ceil(patience),
            )


def report(a: str, b: str, out: Path) -> list[str]:
    """Draws a page with the benchmarks of two versions side by side."""
    with runs.reachable(Path.cwd()):
        client = runs.client(Path.cwd())
        return _report(client, [lineage.find(client, text) for text in (a, b)], out)


def promote(version: str, *, dry_run: bool) -> list[str]:
    """Makes a version the champion, if the rule says so."""
    return _promote(Path.cwd(), _found(version), dry_run=dry_run)


def rollback(name: str, reason: str) -> list[str]:
    """Makes the champion before the present one champion again."""
    gone, back = registry.rollback(Path.cwd(), name, reason)
    return [f"{name}: version {back} is @{registry.CHAMPION} again, version {gone} is not any more"]


def fetch(version: str, directory: Path) -> list[str]:
    """Downloads a version, verified, into a directory that must not exist."""
    found = _found(version)
    lineage.fetch(Path.cwd(), found, directory)
    return _next_steps(directory, found.tags)


def push(version: str, target: str, *, public: bool) -> list[str]:
    """Writes a version, with its model card, to a folder or to a repository of the hub."""
    found = _found(version)
    where = hub.push(Path.cwd(), found, target, public=public)
    return [f"{found.name}/{found.version} is in {where}"]


def pull(source: str, directory: Path) -> list[str]:
    """Brings a version that was pushed, verified, into a directory that must not exist."""
    about = hub.pull(source, directory)
    return [f"{about['name']} version {about['version']}", *_next_steps(directory, about["tags"])]


def trace(version: str) -> list[str]:
    """From a version back to what made it."""
    with runs.reachable(Path.cwd()):
        found = lineage.find(runs.client(Path.cwd()), version)
        return [f"{name:<16} {value}" for name, value in lineage.trace(Path.cwd(), found)]


def _version(root: Path, text: str) -> versions.Version:
    found = _found(text)
    return versions.find(root, found.name, str(found.version))


def _found(version: str) -> ModelVersion:
    with runs.reachable(Path.cwd()):
        return lineage.find(runs.client(Path.cwd()), version)


def _models(client: MlflowClient, environment: str | None) -> list[str]:
    rows = []
    for model in registry.models(client):
        aliases: dict[str, list[str]] = {}
        for alias, number in sorted(model.aliases.items()):
            aliases.setdefault(str(number), []).append(f"@{alias}")
        versions = client.search_model_versions(f"name='{model.name}'")
        for version in sorted(versions, key=lambda version: int(version.version)):
            if environment in (None, version.tags.get("env")):
                number = str(version.version)
                score = registry.score_of(version)
                rows.append((f"{model.name}/{number}", str(score or "-"), version.tags.get("seed", "-"),
                             " ".join(aliases.get(number, []))))  # fmt: skip
    return _table(("version", "success [95% interval]", "seed", ""), rows)


def _checkpoints(client: MlflowClient, environment: str | None) -> list[str]:
    rows = []
    for model in exports.ranked(client, environment):
        tags, steps = model.tags, model.params.get("environment_steps", "-")
        success = exports.success(model)
        rows.append((f"{success:.3f}", steps, tags.get("env", "-"), tags.get("seed", "-"), model.source_run_id or "-",
                     f"models:/{model.model_id}"))  # fmt: skip
    return _table(("success", "environment steps", "environment", "seed", "MLflow run", "model"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["nothing is registered yet; `make run` registers what it trains"]
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _compare(versions: Sequence[ModelVersion]) -> list[str]:
    a, b = (f"{version.name}/{version.version}" for version in versions)
    scores = [registry.score_of(version) for version in versions]
    lines = [f"{a}: success {scores[0] or '-'}", f"{b}: success {scores[1] or '-'}"]
    if scores[0] and scores[1]:
        first, second = (b, a) if scores[1].success > scores[0].success else (a, b)
        apart = max(scores[0].low, scores[1].low) > min(scores[0].high, scores[1].high)
        lines.append(
            f"{first} is better than {second}, and the 95% intervals do not overlap"
            if apart
            else "the 95% intervals overlap: this does not say which is better"
        )
    for name in benchmark_scores.NAMES:
        lines += _benchmark_lines(name, versions)
    if versions[0].tags.get("env") != versions[1].tags.get("env"):
        lines.append(
            f"they act in different environments: {versions[0].tags.get('env')} and {versions[1].tags.get('env')}"
        )
    flat = [runs.flatten(json.loads(version.tags.get("params", "{}"))) for version in versions]
    different = [key for key in sorted({*flat[0], *flat[1]}) if flat[0].get(key) != flat[1].get(key)]
    values: list[tuple[Any, ...]] = [(key, flat[0].get(key, "-"), flat[1].get(key, "-")) for key in different]
    return lines + (["", *_table(("parameter", a, b), values)] if values else ["their parameters are the same"])


def _benchmark_lines(name: str, versions: Sequence[ModelVersion]) -> list[str]:
    """What both versions are known by in a benchmark, and where that does not compare, how both did in the same one."""
    known = [benchmark_scores.recorded(version.tags, name) for version in versions]
    if known == [None, None]:
        return []
    same = benchmark_scores.comparable([version.tags for version in versions], name)
    if known == same:
        apart = None not in known and len({kept["digest"] for kept in known if kept}) > 1
        return [f"{name}: {_scores(known)}" + (" (not the same benchmark)" if apart else "")]
    assert same[0] is not None
    return [
        f"{name}: {_scores(known)} (not the same benchmark)",
        f"{name}, {benchmark_scores.kind(same[0])}: {_scores(same)}",
    ]


def _scores(kept: Sequence[Mapping[str, Any] | None]) -> str:
    return " and ".join("-" if each is None else plus_minus(each).strip() for each in kept)


def _report(client: MlflowClient, versions: Sequence[ModelVersion], out: Path) -> list[str]:
    """Draws the page from the records that are kept with each version."""
    with tempfile.TemporaryDirectory() as aside:
        names = [f"{version.name}/{version.version}" for version in versions]
        homes = [Path(aside) / side / "benchmarks" for side in ("a", "b")]
        for home in homes:
            home.mkdir(parents=True)
        for benchmark in benchmark_scores.NAMES:
            found = benchmark_scores.comparable([version.tags for version in versions], benchmark)
            for version, kept, home in zip(versions, found, homes, strict=True):
                if kept is not None:
                    benchmark_scores.download(client, version, kept, home / benchmark)
        for name, home in zip(names, homes, strict=True):
            if not any(home.iterdir()):
                raise errors.PipelineError(f"{name} has no benchmark results; vldac benchmark models:/{name}")
        command = [sys.executable, "-m", "benchmarks.report", *map(str, homes), "--out", str(out), "--names", *names]
        return call("the report", command, cwd=Path.cwd(), env=environment())


def _promote(root: Path, version: ModelVersion, *, dry_run: bool) -> list[str]:
    done = registry.promote_version(root, version.name, str(version.version), dry_run=dry_run)
    verb = ("would become" if dry_run else "is now") if done.decision.promote else "does not become"
    return [f"{version.name}/{version.version} {verb} @{registry.CHAMPION}: {done.decision.reason}"]


def _next_steps(out: Path, tags: Mapping[str, str]) -> list[str]:
    params, base, policy = (shlex.quote(str(out / name)) for name in ("params.yaml", "base", "policy"))
    options = f"--params {params} --base {base}"
    held = f"{out} holds policy, base and params.yaml; their hashes are those that were registered"
    if (out / "base/base.json").exists():
        held = (
            f"{out} holds policy and params.yaml; their hashes are those that were registered. Of the base it holds "
            f"the name: {lineage.base_of(tags)}"
        )
    return [
        held,
        f"evaluate: vldac evaluate {options} --policy {policy}",
        f"train again: vldac train {options} --run-dir runs/mine --out models/mine",
    ]
