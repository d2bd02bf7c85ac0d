"""Running the cells of a study: base model, training, evaluation, and one line of results each.

A cell is a directory below `runs/study/cells`, named after everything that decides its result: configuration, base
model and code. What has finished is not run again, by whatever study; what was killed resumes from its checkpoint. The
base models lie in `runs/study/bases` and are shared likewise.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml

from vldac.config import Config
from vldac.evaluation.study import schedule
from vldac.evaluation.study.config import Study
from vldac.evaluation.study.matrix import Cell
from vldac.evaluation.study.records import adopt, describe, read_object, write_results
from vldac.evaluation.study.runs import Asked, Run, Surroundings, alone
from vldac.evaluation.study.schedule import Command, Commands
from vldac.utils.errors import UserError
from vldac.utils.files import write_json

#: Niceness of what a study starts: whoever works on the machine goes first.
NICENESS = 10


def run(
    study: Study,
    runs: Sequence[Run],
    directory: Path,
    out: Path,
    *,
    jobs: int,
    surroundings: Surroundings,
    command: str = "",
    wanted: Sequence[Cell] | None = None,
) -> list[dict[str, Any]]:
    """Runs what is not there yet, `jobs` at a time, and writes the results after each cell.

    Args:
        study: of the cells.
        runs: of `place`.
        directory: of all runs; one study at a time works in it.
        out: takes cells.jsonl, cells.csv and study.json.
        jobs: at a time, each of one thread a rank.
        surroundings: of the study.
        command: that a person types to repeat the study, for study.json.
        wanted: the cells to run; the results have all that are there. None: all.

    Returns:
        The lines of results, in the order of the cells.

    Raises:
        UserError: a cell failed, after all others have run; or another study works in `directory`.
    """
    status: Literal["FINISHED", "FAILED", "KILLED"] = "KILLED"
    try:
        with alone(directory):
            about = {"study": study.model_dump(mode="json"), "cells": len(runs), "command": command}
            write_json(out / "study.json", about)
            if adopted := adopt(study, runs, out):
                print(f"{study.name}: {adopted} results of {out} are taken over", flush=True)
            failed = _run(study, runs, out, jobs, surroundings, wanted)
            results = write_results(study, runs, out)
        status = "FAILED" if failed else "FINISHED"
    finally:
        surroundings.finish(status)
    if failed:
        lines = "\n".join(f"{name}: {why}" for name, why in failed.items())
        raise UserError(f"{lines}\n{len(failed)} failed; the same command runs them again")
    return results


def _run(  # noqa: PLR0917  # those of `run`
    study: Study,
    runs: Sequence[Run],
    out: Path,
    jobs: int,
    surroundings: Surroundings,
    wanted: Sequence[Cell] | None,
) -> dict[str, str]:
    """Runs the base models, then the cells that have one; returns what failed, and why."""
    different = {run.result: run for run in runs}
    missing = [run for run in different.values() if not run.result.exists()]
    done = len(different) - len(missing)
    if wanted is not None:
        names = {str(cell) for cell in wanted}
        asked = {run.result for run in runs if str(run.cell) in names}  # an equal cell may have another name
        missing = [run for run in missing if run.result in asked]
    for run in different.values():
        if result := read_object(run.result):
            surroundings.keep(study, run, result)
    print(f"{study.name}: {len(runs)} cells, {done} finished before, {jobs} at a time", flush=True)

    def progress(running: Sequence[str]) -> None:
        ended = sum(path.exists() for path in different)
        at = {str(run.cell): f" at update {_update(run)} of {run.cell.config.updates}" for run in missing}
        named = [name + at.get(name, "") for name in running]
        print(f"  {ended} of {len(different)} done; running: {'; '.join(named)}", flush=True)

    bases: dict[Path, list[Run]] = {}
    for run in missing:
        bases.setdefault(run.base, []).append(run)
    work = [
        (f"base model {base.name} of {of[0].cell.environment}", _base(of, surroundings)) for base, of in bases.items()
    ]
    failed = schedule.run(work, jobs, niceness=NICENESS, progress=progress)
    ready: dict[Path, list[Run]] = {}
    for run in missing:
        if run.base_is_measured:
            ready.setdefault(run.home, []).append(run)
    work = [(str(of[0].cell), _cell(study, of, surroundings, runs, out)) for of in ready.values()]
    return failed | schedule.run(work, jobs, niceness=NICENESS, progress=progress)


def _base(runs: Sequence[Run], surroundings: Surroundings) -> Commands:
    """Makes the base model of some cells, and evaluates it wherever they are, and the random policy where it can be."""
    config, home, made = runs[0].cell.base_config, runs[0].base, runs[0].base / "base.json"
    if not made.exists():
        shutil.rmtree(home / "base", ignore_errors=True)  # half a model; what it had learned is beside it
        yield _command(config, home, "vldac.warm_start", surroundings, "--out", home / "base", "--metrics", made)
        if not made.exists():  # a model that is not made here has no measurements
            write_json(made, {})
    for summary, asked in {path: asked for run in runs for path, asked in run.base_evaluations.items()}.items():
        if not summary.exists():
            yield _evaluation(asked, home, home / "base", summary, surroundings, "random", "base")
    for benchmark in {each.key: each for run in runs for each in run.benchmarks.values()}.values():
        if not benchmark.summary(home).exists():
            yield _benchmark(benchmark, home, home / "base", surroundings)


def _cell(study: Study, equal: Sequence[Run], surroundings: Surroundings, runs: Sequence[Run], out: Path) -> Commands:
    """Trains a cell and evaluates it.

    Args:
        study: of the cell.
        equal: cells that are trained alike, in one directory, and evaluated in different ways; the first gives its
            name.
        surroundings: of the study.
        runs: all of the study.
        out: of the results.
    """
    run = equal[0]
    config, home, policy, base = run.cell.config, run.home, run.home / "policy", run.base / "base"
    usage = read_object(home / "usage.json") or {"attempts": 0, "wall_s": 0.0, "cpu_s": 0.0}
    result = None
    home.mkdir(parents=True, exist_ok=True)
    surroundings.begin(study, run)
    try:
        if not policy.exists():  # it appears whole or not at all
            usage["attempts"] += 1
            write_json(home / "usage.json", usage)
            options = ("--base", base, "--run-dir", home / "run", "--out", policy)
            took = yield _command(config, home, "vldac.train", surroundings, *options)
            usage |= {"cpu_s": took.cpu_s, "wall_s": took.wall_s}
            write_json(home / "usage.json", usage)
            print(f"{run.cell}: trained in {took.wall_s:.0f} s", flush=True)
        for each in equal:
            for summary, asked in each.evaluations.items():
                if not summary.exists():
                    yield _evaluation(asked, home, base, summary, surroundings, "trained", policy=policy)
            for label, benchmark in each.benchmarks.items():
                if not benchmark.summary(home).exists():
                    yield _benchmark(benchmark, home, base, surroundings, policy)
                if not each.comparison(label).exists():
                    yield _comparison(benchmark, each, each.comparison(label).parent, surroundings)
            write_json(each.result, describe(study, each, surroundings))
        line = describe(study, run, surroundings)
        shutil.rmtree(home / "run/checkpoints", ignore_errors=True)
        write_results(study, runs, out)
        score = line["trained"]
        print(f"{run.cell}: success {score['success']:.3f} over {score['episodes']} episodes", flush=True)
        result = line
    finally:
        surroundings.end(run, result)


def _evaluation(
    config: Config,
    home: Path,
    base: Path,
    summary: Path,
    surroundings: Surroundings,
    *policies: str,
    policy: Path | None = None,
) -> Command:
    options: list[str | Path] = [
        "--base",
        base,
        "--out",
        summary,
        "--episodes-dir",
        summary.with_suffix(""),
        "--policies",
        *policies,
    ]
    if policy is not None:
        options += ["--policy", policy]
    return _command(config, home, "vldac.evaluation.episodes", surroundings, *options)


def _benchmark(asked: Asked, home: Path, base: Path, surroundings: Surroundings, policy: Path | None = None) -> Command:
    """Puts a model to a benchmark; one that was killed goes on from its records."""
    options: list[str | Path] = ["--benchmark", asked.name, "--base", base, "--out", asked.records(home)]
    if policy is not None:
        options += ["--policy", policy]
    return _command(asked.config, home, "benchmarks", surroundings, *options)


def _comparison(asked: Asked, run: Run, out: Path, surroundings: Surroundings) -> Command:
    both = [str(asked.records(home).parent) for home in (run.base, run.home)]
    argv = [sys.executable, "-m", "benchmarks.report", *both, "--out", str(out)]
    return Command(argv, run.home / "benchmarks.log", surroundings.environment(asked.config))


def _command(config: Config, home: Path, module: str, surroundings: Surroundings, *options: str | Path) -> Command:
    home.mkdir(parents=True, exist_ok=True)
    params = home / "params.yaml"
    params.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    env = surroundings.environment(config)
    if config.deepspeed.threads:
        env["OMP_NUM_THREADS"] = str(config.deepspeed.threads)
    argv = [sys.executable, "-m", module, "--params", str(params), *map(str, options)]
    return Command(argv, home / f"{module}.log", env)


def _update(run: Run) -> int:
    """Updates that a run has made."""
    with suppress(FileNotFoundError):
        return run.metrics.read_bytes().count(b"\n")
    return 0
