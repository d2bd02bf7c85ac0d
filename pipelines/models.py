"""The registered models, from a terminal.

python -m pipelines.models list [--checkpoints] [--world MiniWorld-Hallway-v0]
python -m pipelines.models compare NAME@champion NAME/3
python -m pipelines.models report NAME@champion NAME/3 --out DIRECTORY
python -m pipelines.models promote NAME@candidate [--dry-run]
python -m pipelines.models rollback NAME --reason "it turns left for ever"
python -m pipelines.models fetch models:/NAME@champion DIRECTORY
python -m pipelines.models trace models:/NAME/3
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import checkpoints, cli, exams, lineage, registry, tracking
from pipelines.repro import call, environment

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
    with tracking.reachable(root):
        client = tracking.client(root)
        if options.command == "list":
            lines = _checkpoints(client, options.world) if options.checkpoints else _models(client, options.world)
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
        prog="python -m pipelines.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="versions with their aliases and scores")
    command.add_argument("--checkpoints", action="store_true", help="every logged policy, the best first")
    command.add_argument("--world", help="of this world only, such as MiniWorld-Hallway-v0")
    command = commands.add_parser("compare", help="two versions side by side, and in what their parameters differ")
    command.add_argument("a", help="NAME@champion, NAME/3, or NAME for its candidate")
    command.add_argument("b")
    command = commands.add_parser("report", help="a page with the exams of two versions side by side")
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


def _models(client: MlflowClient, world: str | None) -> list[str]:
    rows = []
    for model in sorted(client.search_registered_models(), key=lambda model: str(model.name)):
        aliases: dict[str, list[str]] = {}
        for alias, number in sorted(model.aliases.items()):
            aliases.setdefault(str(number), []).append(f"@{alias}")
        versions = client.search_model_versions(f"name='{model.name}'")
        for version in sorted(versions, key=lambda version: int(version.version)):
            if world in (None, version.tags.get("env")):
                number = str(version.version)
                score = registry.score_of(version)
                rows.append((f"{model.name}/{number}", str(score or "-"), version.tags.get("seed", "-"),
                             " ".join(aliases.get(number, []))))  # fmt: skip
    return _table(("version", "success [95% interval]", "seed", ""), rows)


def _checkpoints(client: MlflowClient, world: str | None) -> list[str]:
    rows = []
    for model in checkpoints.ranked(client, world):
        tags, steps = model.tags, model.params.get("environment_steps", "-")
        success = checkpoints.success(model)
        rows.append((f"{success:.3f}", steps, tags.get("env", "-"), tags.get("seed", "-"), model.source_run_id or "-",
                     f"models:/{model.model_id}"))  # fmt: skip
    return _table(("success", "environment steps", "world", "seed", "MLflow run", "model"), rows)


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
    for name in exams.NAMES:
        lines += _exam_lines(name, versions)
    if versions[0].tags.get("env") != versions[1].tags.get("env"):
        lines.append(f"they act in different worlds: {versions[0].tags.get('env')} and {versions[1].tags.get('env')}")
    flat = [tracking.flatten(json.loads(version.tags.get("params", "{}"))) for version in versions]
    different = [key for key in sorted({*flat[0], *flat[1]}) if flat[0].get(key) != flat[1].get(key)]
    values: list[tuple[Any, ...]] = [(key, flat[0].get(key, "-"), flat[1].get(key, "-")) for key in different]
    return lines + (["", *_table(("parameter", a, b), values)] if values else ["their parameters are the same"])


def _exam_lines(name: str, versions: Sequence[ModelVersion]) -> list[str]:
    """What both versions are known by in an exam, and where that does not compare, how both did in the same one."""
    known = [exams.recorded(version.tags, name) for version in versions]
    if known == [None, None]:
        return []
    same = exams.comparable([version.tags for version in versions], name)
    if known == same:
        apart = None not in known and len({kept["digest"] for kept in known if kept}) > 1
        return [f"{name}: {_scores(known)}" + (" (not the same exam)" if apart else "")]
    assert same[0] is not None
    return [f"{name}: {_scores(known)} (not the same exam)", f"{name}, {exams.kind(same[0])}: {_scores(same)}"]


def _scores(kept: Sequence[Mapping[str, Any] | None]) -> str:
    return " and ".join("-" if k is None else f"{k['score']:.2f} +- {k['standard_error']:.2f}" for k in kept)


def _report(client: MlflowClient, versions: Sequence[ModelVersion], out: Path) -> list[str]:
    """Draws the page from the records that are kept with each version."""
    with tempfile.TemporaryDirectory() as aside:
        names = [f"{version.name}/{version.version}" for version in versions]
        homes = [Path(aside) / side / "exams" for side in ("a", "b")]
        for home in homes:
            home.mkdir(parents=True)
        for exam in exams.NAMES:
            sat = exams.comparable([version.tags for version in versions], exam)
            for version, kept, home in zip(versions, sat, homes, strict=True):
                if kept is not None:
                    exams.download(client, version, kept, home / exam)
        for name, home in zip(names, homes, strict=True):
            if not any(home.iterdir()):
                raise cli.PipelineError(f"{name} has sat no exam; make evaluate MODEL=models:/{name}")
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
        f"evaluate: python -m benchmarks.simulator {options} --policy {out}/policy",
        f"train again: python -m vldac.train {options} --run-dir runs/mine --out models/mine",
    ]


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
