"""Running the cells of a study: base model, training, evaluation, and one line of results each.

A cell is a directory below `runs/study/cells`, named after everything that decides its result: configuration, base
model and code. What has finished is not run again, by whatever study; what was killed resumes from its checkpoint. The
base models lie in `runs/study/bases` and are shared likewise.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml

import envs
import vldac
from vldac.config import Config
from vldac.evaluation.aggregation import first_reached
from vldac.evaluation.study import schedule
from vldac.evaluation.study.config import Cell, Study, base_fingerprint
from vldac.evaluation.study.schedule import Command, Commands
from vldac.utils.errors import UserError
from vldac.utils.files import content_hash, write_json

#: Niceness of what a study starts: whoever works on the machine goes first.
NICENESS = 10
#: Episodes that a success rate must be over to count as having reached the threshold.
LEAST_EPISODES = 50
_RECENT = "episode/success_last_100"
_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "numpy")


class Surroundings:
    """What a study takes from around it, and tells it. By itself, a study is tracked nowhere."""

    def code(self, config: Config) -> str:
        """Names the code that decides the results of `config`; here all of vldac and envs."""
        return self._everything

    @cached_property
    def _everything(self) -> str:
        return content_hash(*(Path(str(package.__file__)).parent for package in (vldac, envs)))

    def environment(self, config: Config) -> dict[str, str]:
        """The environment of a child process that works for `config`."""
        return dict(os.environ)

    def about(self) -> dict[str, str]:
        """More versions for a line of results, such as a git revision."""
        return {}

    def begin(self, study: Study, run: Run) -> None:
        """The training of a cell begins, or continues."""

    def end(self, run: Run, result: Mapping[str, Any] | None) -> None:
        """A cell has ended, with its line of results unless it failed or was interrupted."""

    def keep(self, study: Study, run: Run, result: Mapping[str, Any]) -> None:
        """A cell had finished before this study began."""

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """The study has ended: all cells are there, some failed, or it was interrupted."""


@dataclass(frozen=True)
class Run:
    """A cell and where it is run.

    Attributes:
        cell: of the study.
        base: directory of the base model's files.
        home: directory of the cell's own.
    """

    cell: Cell
    base: Path
    home: Path

    @property
    def result(self) -> Path:
        """The line of results, written last."""
        return self.home / f"result-{self.cell.config.evaluate.episodes}.json"

    @property
    def metrics(self) -> Path:
        """One JSON object an update, written by training."""
        return self.home / "run/metrics.jsonl"


def place(cells: Iterable[Cell], directory: Path, surroundings: Surroundings) -> list[Run]:
    """Where each cell of a study is run; equal cells share a directory."""
    runs = []
    codes: dict[str, str] = {}
    for cell in cells:
        variable = {"env": cell.config.env, "train": cell.config.train, "model": cell.config.model}
        kind = json.dumps({key: value.model_dump(mode="json") for key, value in variable.items()}, sort_keys=True)
        if kind not in codes:
            codes[kind] = surroundings.code(cell.config)
        base = _key(base_fingerprint(cell.base_config), codes[kind])
        own = cell.config.fingerprint(base, codes[kind])
        runs.append(Run(cell, directory / "bases" / base, directory / "cells" / own))
    return runs


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def run(
    study: Study,
    runs: Sequence[Run],
    directory: Path,
    out: Path,
    *,
    jobs: int,
    surroundings: Surroundings,
    command: str = "",
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
            failed = _run(study, runs, out, jobs, surroundings)
            results = write_results(study, runs, out)
        status = "FAILED" if failed else "FINISHED"
    finally:
        surroundings.finish(status)
    if failed:
        lines = "\n".join(f"{name}: {why}" for name, why in failed.items())
        raise UserError(f"{lines}\n{len(failed)} failed; the same command runs them again")
    return results


def _run(study: Study, runs: Sequence[Run], out: Path, jobs: int, surroundings: Surroundings) -> dict[str, str]:
    """Runs the base models, then the cells that have one; returns what failed, and why."""
    different = {run.result: run for run in runs}
    missing = [run for run in different.values() if not run.result.exists()]
    done = len(different) - len(missing)
    for run in different.values():
        if result := _read(run.result):
            surroundings.keep(study, run, result)
    print(f"{study.name}: {len(runs)} cells, {done} finished before, {jobs} at a time", flush=True)

    def progress(running: Sequence[str]) -> None:
        ended = sum(path.exists() for path in different)
        at = {str(run.cell): f" at update {_update(run)} of {run.cell.config.updates}" for run in missing}
        named = [name + at.get(name, "") for name in running]
        print(f"  {ended} of {len(different)} done; running: {'; '.join(named)}", flush=True)

    bases = {run.base: run for run in missing}.values()
    work = [(f"base model {run.base.name} of {run.cell.environment}", _base(run, surroundings)) for run in bases]
    failed = schedule.run(work, jobs, niceness=NICENESS, progress=progress)
    ready = [run for run in missing if (run.base / "summary.json").exists()]
    work = [(str(run.cell), _cell(study, run, surroundings, runs, out)) for run in ready]
    return failed | schedule.run(work, jobs, niceness=NICENESS, progress=progress)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """A context in which no other study works in `directory`.

    Raises:
        UserError: another one does.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another study works in {directory}; wait for it, or choose another --directory") from None
        yield


def _base(run: Run, surroundings: Surroundings) -> Commands:
    """Makes a base model, and evaluates it and the random policy."""
    config, home, made = run.cell.base_config, run.base, run.base / "base.json"
    if not made.exists():
        shutil.rmtree(home, ignore_errors=True)  # what a killed attempt left
        yield _command(config, home, "vldac.warm_start", surroundings, "--out", home / "base", "--metrics", made)
        if not made.exists():  # a model that is not made here has no measurements
            write_json(made, {})
    if not (home / "summary.json").exists():
        yield _evaluation(config, home, home / "base", home / "summary.json", surroundings, "random", "base")


def _cell(study: Study, run: Run, surroundings: Surroundings, runs: Sequence[Run], out: Path) -> Commands:
    """Trains a cell and evaluates it."""
    config, home, policy, base = run.cell.config, run.home, run.home / "policy", run.base / "base"
    usage = _read(home / "usage.json") or {"attempts": 0, "wall_s": 0.0, "cpu_s": 0.0}
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
        summary = home / f"summary-{config.evaluate.episodes}.json"
        if not summary.exists():
            yield _evaluation(config, home, base, summary, surroundings, "trained", policy=policy)
        line = describe(study, run, surroundings)
        write_json(run.result, line)
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
        home / "episodes",
        "--policies",
        *policies,
    ]
    if policy is not None:
        options += ["--policy", policy]
    return _command(config, home, "vldac.evaluation.episodes", surroundings, *options)


def _command(config: Config, home: Path, module: str, surroundings: Surroundings, *options: str | Path) -> Command:
    home.mkdir(parents=True, exist_ok=True)
    params = home / "params.yaml"
    params.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    env = surroundings.environment(config)
    if config.deepspeed.threads:
        env["OMP_NUM_THREADS"] = str(config.deepspeed.threads)
    argv = [sys.executable, "-m", module, "--params", str(params), *map(str, options)]
    return Command(argv, home / f"{module}.log", env)


def describe(study: Study, run: Run, surroundings: Surroundings) -> dict[str, Any]:
    """The line of results of a cell that has been trained and evaluated."""
    config = run.cell.config
    usage, rows = _read(run.home / "usage.json") or {}, read_lines(run.metrics)
    curve = learning_curve(rows)
    at = first_reached(curve["success"], curve["episodes"], study.threshold, LEAST_EPISODES)
    trained = _required(run.home / f"summary-{config.evaluate.episodes}.json")["trained"]
    before = _required(run.base / "summary.json")
    return {
        "env_id": config.env.id,
        "model": config.model.base,
        "temperature": config.rollout.temperature,
        "environment_steps": curve["environment_steps"][-1],
        "trained": trained,
        "base": before["base"],
        "random": before["random"],
        "threshold": study.threshold,
        "steps_to_threshold": None if at is None else curve["environment_steps"][at],
        "seconds_to_threshold": None if at is None else curve["seconds"][at],
        "seconds": curve["seconds"][-1],
        # A process that was killed cannot be asked any more what it had used.
        "cpu_seconds": usage["cpu_s"] if usage.get("attempts") == 1 else None,
        "attempts": usage.get("attempts"),
        "curve": curve,
        "fingerprint": run.home.name,
        "code": surroundings.code(config)[:16],
        "versions": versions() | surroundings.about(),
        "machine": machine(),
    }


def learning_curve(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Success of the last 100 episodes of complete cohorts after each update, with their number.

    Args:
        rows: of metrics.jsonl.

    Returns:
        Columns: environment steps, success (None before the first complete cohort), episodes behind it, and seconds of
        the run so far, interruptions left out.
    """
    return {
        "environment_steps": [row["environment_steps"] for row in rows],
        "success": [row.get(_RECENT) for row in rows],
        "episodes": [int(row.get(f"{_RECENT}_count", 0)) for row in rows],
        "seconds": [round(row["time_s"], 3) for row in rows],
    }


def write_results(study: Study, runs: Sequence[Run], out: Path) -> list[dict[str, Any]]:
    """Writes what is finished: cells.jsonl, a line a cell, and cells.csv, the same without curves."""
    lines = []
    for run in runs:
        line = _read(run.result)
        if line is not None:
            cell = run.cell  # a cell may be a main one of one study and a point of the grid of another
            about = {"study": study.name, "environment": cell.environment, "algorithm": cell.algorithm}
            about |= {"kind": cell.kind, "variant": cell.variant}
            lines.append({**about, "seed": cell.seed, **line})
    out.mkdir(parents=True, exist_ok=True)
    _write_text(out / "cells.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    _write_csv(out / "cells.csv", lines)
    return lines


def _write_csv(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    flat = [dict(_flat({key: value for key, value in line.items() if key != "curve"})) for line in lines]
    names = list(dict.fromkeys(name for line in flat for name in line))
    aside = path.with_name(f".{path.name}")
    with aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(flat)
    aside.replace(path)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield from ((f"{prefix}{key}.{i}", item) for i, item in enumerate(value))
        else:
            yield prefix + key, value


def _write_text(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every object of a JSON Lines file.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the study first") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run the study again, it writes it anew") from None


def _read(path: Path) -> dict[str, Any] | None:
    with suppress(FileNotFoundError):
        return _required(path)
    return None


def _required(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run the study again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object; delete it and run the study again")
    return value


def _update(run: Run) -> int:
    """Updates that a run has made."""
    with suppress(FileNotFoundError):
        return run.metrics.read_bytes().count(b"\n")
    return 0


def versions() -> dict[str, str]:
    """Of this project, of Python and of the libraries that training uses."""
    found = {"vldac": vldac.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch  # noqa: PLC0415  # seconds to import

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"architecture": platform.machine(), "processor": _processor(), "cores": os.cpu_count(), "gpu": gpu}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
