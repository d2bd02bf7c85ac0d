"""Stage `evaluate`: random policy, base and trained model on episodes that training never saw, and the pictures."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.core import errors, extensions, tables
from pipelines.core.project import read_json
from pipelines.stages import plots
from pipelines.stages.common import arguments, require, run_module
from vldac.config import load
from vldac.utils.files import write_json

_INTERVAL = ("success", "low", "high", "episodes")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes metrics/summary.json, metrics/success.json, evaluations/ and, into plots/, two tables and two PNGs."""
    options = arguments(argv, __doc__)
    root: Path = options.root
    out, episodes = root / "metrics/summary.json", root / "evaluations"
    out.parent.mkdir(parents=True, exist_ok=True)
    (root / "plots").mkdir(exist_ok=True)
    if episodes.exists():
        shutil.rmtree(episodes)
    index = read_json(root / "models/checkpoints/index.json")["checkpoints"]
    checkpoints = [root / "models/checkpoints" / entry["path"] for entry in index]
    run_module(
        "vldac.evaluation.episodes",
        *("--params", options.params),
        *("--base", root / "models/base"),
        *("--policy", root / "models/policy"),
        *("--out", out),
        *("--episodes-dir", episodes),
        *("--filmstrip", root / "plots/filmstrip.png"),
        *(("--checkpoints", *checkpoints) if checkpoints else ()),
        root=root,
        env=extensions.environment(root, load(root / options.params)),
    )
    summary = read_json(require(out))
    write_json(root / "metrics/success.json", headline(summary))
    write_policies(root / "plots/policies.csv", summary)
    curve = plots.read_curve(root / "plots/learning_curve.csv")
    write_checkpoints(root / "plots/checkpoints.csv", summary, int(curve["environment_steps"][-1]))
    plots.learning_curve(curve, summary, root / "plots/learning_curve.png")
    require(root / "plots/filmstrip.png")
    return 0


def headline(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers by which experiments are compared in a table."""
    trained = summary["trained"]
    low, high = trained["success_ci"]
    return {
        "success": trained["success"],
        "low": low,
        "high": high,
        "base": summary["base"]["success"],
        "steps_to_goal": trained["steps_to_goal"],
    }


def write_policies(path: Path, summary: Mapping[str, Any]) -> None:
    """Writes success and its interval, a line a policy."""
    names = ("environment", "policy", *_INTERVAL)
    rows = ({"environment": summary["env"], "policy": name} | _interval(summary[key]) for key, name in tables.POLICIES)
    _write(path, names, rows)


def write_checkpoints(path: Path, summary: Mapping[str, Any], environment_steps: int) -> None:
    """Writes success and its interval against environment steps, a line an exported policy, the trained one last."""
    scores = [*summary.get("checkpoints", ()), summary["trained"] | {"environment_steps": environment_steps}]
    rows = ({"environment_steps": score["environment_steps"]} | _interval(score) for score in scores)
    _write(path, ("environment_steps", *_INTERVAL), rows)


def _interval(score: Mapping[str, Any]) -> dict[str, Any]:
    low, high = score["success_ci"]
    return {"success": score["success"], "low": low, "high": high, "episodes": score["episodes"]}


def _write(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
