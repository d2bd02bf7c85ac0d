"""Does it learn, every time, and better than what? Algorithms, environments, seeds and ablations; one table.

    vldac study smoke                       # conf/study/smoke.yaml; or the path of such a file
    vldac study laptop --jobs 2 --dry-run   # how many runs, and how long they take
    vldac study report results/study/smoke  # tables and figures
    vldac study --params conf/numberline.yaml --seeds 0 1 2  # one params file, a base model a seed

What is there already is not made again, and a killed study resumes.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vldac.config import load
from vldac.evaluation.study import cells, report, runs
from vldac.evaluation.study.config import Study, checked, find, read
from vldac.evaluation.study.matrix import cells as cells_of
from vldac.evaluation.study.matrix import chosen, file_name, hours
from vldac.utils.errors import UserError, report_errors

RESULTS = Path("results/study")


def of_params(params: str | None, overrides: Sequence[str], seeds: Sequence[int]) -> Study:
    """The study of one params file: its environment, its algorithm, several seeds with a base model each.

    The environment is named as a file would be: an id such as `openenv:http://127.0.0.1:8000` is no name of a study.

    Raises:
        ConfigError: the file or a seed is wrong.
    """
    config = load(params, overrides)
    name = file_name(config.env.id)
    values = {
        "name": name,
        "params": params or "params.yaml",
        "environments": [{"name": name}],
        "algorithms": [{"name": config.train.algorithm, "options": config.train.algorithm_options}],
        "seeds": list(seeds),
        "base_per_seed": True,
        "episodes": config.evaluate.episodes,
    }
    return checked(values, "vldac study")


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


def main(arguments: Sequence[str] | None = None, surroundings: runs.Surroundings | None = None) -> int:
    """The command line.

    Args:
        arguments: None: those of this process.
        surroundings: where the study is tracked; None: nowhere.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["report"]:
        return _report(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="vldac study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = "smoke, laptop, laptop-ablations, full, transfer, or a YAML file; without one: one params file"
    parser.add_argument("profile", nargs="?", help=what)
    parser.add_argument("--model", help="start from this model instead: a hub id or a directory")
    parser.add_argument("--jobs", type=int, help="cells at a time (default: as many as the cores serve)")
    parser.add_argument(
        "--params", help="without a profile (default: params.yaml, or the defaults where there is none)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value everywhere")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of those of the profile (without one: 0 1 2)")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="TEXT",
        help="run those cells alone that have one of these in their --dry-run line",
    )
    parser.add_argument("--directory", type=Path, default=Path("runs/study"), help="all runs, of whatever study")
    parser.add_argument("--out", type=Path, help=f"results (default: {RESULTS}/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and an estimate of the time")
    options = parser.parse_args(arguments)
    if options.profile and options.params:
        parser.error("--params goes without a profile, which names its own")
    if options.only and not options.profile:
        parser.error("--only goes with a profile; a params file has one cell a seed")
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs must be 1 at least")
    if options.profile:
        study = read(find(options.profile))
        if options.seeds:
            study = checked({**dict(study), "seeds": options.seeds}, "vldac study")
    else:
        study = of_params(options.params, options.set, options.seeds or (0, 1, 2))
    extra = [f"model.base={options.model}", "model.revision=null"] if options.model else []
    every = cells_of(study, [*options.set, *extra])
    jobs = options.jobs or max(1, _cores() // max(cell.config.deepspeed.ranks for cell in every))
    wanted = chosen(every, options.only) if options.only else every
    if options.dry_run:
        print("\n".join(cell.line for cell in wanted))
        different = len({cell.config.fingerprint() for cell in wanted})
        print(
            f"{study.name}: {len(wanted)} cells, {different} of them different; training takes "
            f"{hours(wanted, study, jobs):.2f} h at {study.steps_per_second:g} steps/s on each of {jobs} core(s)"
        )
        return 0
    surroundings = surroundings or runs.Surroundings()
    placed = runs.place(every, options.directory, surroundings, threshold=study.threshold)
    out = options.out or RESULTS / study.name
    command = shlex.join(["vldac", "study", *arguments])
    results = cells.run(
        study, placed, options.directory, out, jobs=jobs, surroundings=surroundings, command=command, wanted=wanted
    )
    if options.profile:
        page = report.write(out)
        surroundings.reported(study, placed, page)
        print(f"{page.read_text(encoding='utf-8')}\n{page}, with figures beside it")
    else:
        first = results[0]
        print(
            f"{first['env_id']}, {first['environment_steps']} environment steps, sampled at temperature "
            f"{first['temperature']}"
        )
        print(table(results))
    return 0


def _report(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="vldac study report", description="Tables and figures of a study.")
    parser.add_argument("results", type=Path, help="the folder of cells.jsonl, such as results/study/smoke")
    options = parser.parse_args(arguments)
    if not options.results.is_dir():
        raise UserError(f"{options.results} is no folder; name one such as results/study/smoke")
    print(report.write(options.results))
    return 0


def _cores() -> int:
    available = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(available(0)) if available else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(report_errors(main))
