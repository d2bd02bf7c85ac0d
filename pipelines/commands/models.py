"""The registered models, from a terminal.

python -m pipelines.commands.models list [--checkpoints] [--env MiniWorld-Hallway-v0]
python -m pipelines.commands.models compare NAME@champion NAME/3
python -m pipelines.commands.models report NAME@champion NAME/3 --out DIRECTORY
python -m pipelines.commands.models promote NAME@candidate [--dry-run]
python -m pipelines.commands.models rollback NAME --reason "it turns left for ever"
python -m pipelines.commands.models fetch models:/NAME@champion DIRECTORY
python -m pipelines.commands.models trace models:/NAME/3
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core import errors
from pipelines.stages.repro import call, environment
from pipelines.tracking import benchmark_scores, exports, lineage, registry, runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def main(argv: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    options = _parser().parse_args(argv)
    root = Path.cwd()
    if options.command == "rollback":
        gone, back = registry.rollback(root, options.name, options.reason)
        print(f"{options.name}: version {back} is @{registry.CHAMPION} again, version {gone} is not any more")
        return 0
    with runs.reachable(root):
        client = runs.client(root)
        if options.command == "list":
            lines = _checkpoints(client, options.env) if options.checkpoints else _models(client, options.env)
        elif options.command in {"compare", "report"}:
            pair = [lineage.find(client, text) for text in (options.a, options.b)]
            lines = _compare(pair) if options.command == "compare" else _report(client, pair, options.out)
        else:
            version = lineage.find(client, options.version)
            lines = [f"{name:<16} {value}" for name, value in lineage.trace(root, version)]
    if options.command == "promote":
        lines = _promote(root, version, dry_run=options.dry_run)
    elif options.command == "fetch":
        lineage.fetch(root, version, options.directory)
        lines = _next_steps(options.directory)
    print("\n".join(lines))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.commands.models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="versions with their aliases and scores")
    command.add_argument("--checkpoints", action="store_true", help="every logged policy, the best first")
    command.add_argument("--env", help="of this environment only, such as MiniWorld-Hallway-v0")
    command = commands.add_parser("compare", help="two versions side by side, and how their parameters differ")
    command.add_argument("a", help="NAME@champion, NAME/3, or NAME for its candidate")
    command.add_argument("b")
    command = commands.add_parser("report", help="a page with the benchmarks of two versions side by side")
    command.add_argument("a", help="NAME@champion, NAME/3, or NAME for its candidate")
    command.add_argument("b")
    command.add_argument("--out", type=Path, default=Path("report"), help="(default: %(default)s)")
    command = commands.add_parser("promote", help="make a version the champion, if the rule says so")
    command.add_argument("version", help="NAME@candidate or NAME/3")
    command.add_argument("--dry-run", action="store_true", help="only say what would happen")
    command = commands.add_parser("rollback", help="make the champion before the present one champion again")
    command.add_argument("name")
    command.add_argument("--reason", required=True, help="kept with the version that stops being champion")
    command = commands.add_parser("fetch", help="download a version, verified")
    command.add_argument("version")
    command.add_argument("directory", type=Path, help="must not exist")
    command = commands.add_parser("trace", help="from a version back to what made it")
    command.add_argument("version")
    return parser


def _models(client: MlflowClient, environment: str | None) -> list[str]:
    rows = []
    for model in sorted(client.search_registered_models(), key=lambda model: str(model.name)):
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
    return " and ".join("-" if k is None else f"{k['score']:.2f} +- {k['standard_error']:.2f}" for k in kept)


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
                raise errors.PipelineError(f"{name} has no benchmark results; make evaluate MODEL=models:/{name}")
        command = [sys.executable, "-m", "benchmarks.report", *map(str, homes), "--out", str(out), "--names", *names]
        return call("the report", command, cwd=Path.cwd(), env=environment())


def _promote(root: Path, version: ModelVersion, *, dry_run: bool) -> list[str]:
    done = registry.promote_version(root, version.name, str(version.version), dry_run=dry_run)
    verb = ("would become" if dry_run else "is now") if done.decision.promote else "does not become"
    return [f"{version.name}/{version.version} {verb} @{registry.CHAMPION}: {done.decision.reason}"]


def _next_steps(out: Path) -> list[str]:
    options = f"--params {out}/params.yaml --base {out}/base"
    return [
        f"{out} holds policy, base and params.yaml; their hashes are those that were registered",
        f"evaluate: python -m vldac.evaluation.episodes {options} --policy {out}/policy",
        f"train again: python -m vldac.train {options} --run-dir runs/mine --out models/mine",
    ]


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
