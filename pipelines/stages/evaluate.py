"""Stage `evaluate`: random policy, base and trained model on episodes that training never saw, and the pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipelines import cli, plots
from pipelines.project import read_json
from pipelines.stages.common import arguments, require, run_module


def main(argv: Sequence[str] | None = None) -> int:
    """Writes metrics/summary.json, evaluations/ and the two PNGs of plots/."""
    options = arguments(argv, __doc__)
    root: Path = options.root
    summary, episodes = root / "metrics/summary.json", root / "evaluations"
    summary.parent.mkdir(parents=True, exist_ok=True)
    (root / "plots").mkdir(exist_ok=True)
    if episodes.exists():
        shutil.rmtree(episodes)
    run_module(
        "benchmarks.simulator",
        *("--params", options.params),
        *("--base", root / "models/base"),
        *("--policy", root / "models/policy"),
        *("--out", summary),
        *("--episodes-dir", episodes),
        *("--filmstrip", root / "plots/filmstrip.png"),
        root=root,
    )
    plots.learning_curve(
        plots.read_curve(root / "plots/learning_curve.csv"),
        read_json(require(summary)),
        root / "plots/learning_curve.png",
    )
    require(root / "plots/filmstrip.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
