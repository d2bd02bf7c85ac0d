"""Does it learn, every time? The whole run for several seeds, and one table.

    vldac study --seeds 0 1 2
    vldac study --seeds 0 1 2 --set env.id=GymCards-NumberLine-v0 --set env.width=64 ...

Each seed has a base model, a training run and an evaluation of its own under runs/study; what is there already is not
made again, and a killed study resumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vldac.config import load
from vldac.utils.errors import report_errors


def run_seed(params: str | None, overrides: Sequence[str], seed: int, directory: Path) -> dict[str, Any]:
    """One seed from the base model to its summary, in `directory`."""
    overrides = [*overrides, f"seed={seed}"]
    config = load(params, overrides)
    home = directory / f"{config.env.id.replace('/', '-')}-{config.fingerprint()}"
    summary = home / "summary.json"
    base, policy = home / "base", home / "policy"
    common = [*(["--params", params] if params else []), *(f"--set={override}" for override in overrides)]
    stages = [
        (base / "done", "vldac.warm_start", ["--out", base, "--metrics", home / "base.json"]),
        (policy / "vldac.json", "vldac.train", ["--base", base, "--run-dir", home / "run", "--out", policy]),
        (
            summary,
            "vldac.evaluation.episodes",
            ["--base", base, "--policy", policy, "--out", summary, "--episodes-dir", home / "episodes"],
        ),
    ]
    for made, module, options in stages:
        if made.exists():
            continue
        started = time.monotonic()
        home.mkdir(parents=True, exist_ok=True)
        with (home / f"{module}.log").open("a") as log:
            command = [sys.executable, "-m", module, *common, *map(str, options)]
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                raise OSError(f"seed {seed}: {module} failed; see {log.name}")
        made.touch()
        print(f"seed {seed}: {module} took {time.monotonic() - started:.0f} s", flush=True)
    result: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    result["environment_steps"] = json.loads((policy / "vldac.json").read_text(encoding="utf-8"))["environment_steps"]
    return result


def table(results: Sequence[dict[str, Any]]) -> str:
    """One line a seed and policy."""
    lines = [
        f"{'seed':>4}  {'policy':8} {'success':>7}  {'95% interval':>13} {'return':>7} {'steps':>6} {'episodes':>8}"
    ]
    for result in results:
        for name in ("random", "base", "trained"):
            row = result[name]
            low, high = row["success_ci"]
            lines.append(
                f"{result['seed']:>4}  {name:8} {row['success']:7.3f}  {low:6.3f}-{high:.3f} {row['return']:7.2f} "
                f"{row['steps_to_goal']:6.1f} {row['episodes']:8}"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="vldac study", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--params", help="configuration (default: params.yaml, or the defaults where there is none)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--directory", type=Path, default=Path("runs/study"))
    options = parser.parse_args(arguments)
    results = [run_seed(options.params, options.set, seed, options.directory) for seed in options.seeds]
    print(
        f"{results[0]['env']}, {results[0]['environment_steps']} environment steps, sampled at temperature "
        f"{results[0]['temperature']}"
    )
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
