"""The lines of results of a study: one of each cell that has been trained and evaluated."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import vldac
from vldac.evaluation.aggregation import first_reached
from vldac.evaluation.study.config import Study
from vldac.evaluation.study.runs import Run, Surroundings
from vldac.utils.errors import UserError
from vldac.utils.files import write_json

#: Episodes that a success rate must be over to count as having reached the threshold.
LEAST_EPISODES = 50
_RECENT = "episode/success_last_100"
_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "numpy")


def describe(study: Study, run: Run, surroundings: Surroundings) -> dict[str, Any]:
    """The line of results of a cell that has been trained and evaluated."""
    config = run.cell.config
    usage, rows = read_object(run.home / "usage.json") or {}, read_lines(run.metrics)
    curve = learning_curve(rows)
    at = first_reached(curve["success"], curve["episodes"], study.threshold, LEAST_EPISODES)
    trained, before = _required(run.summary)["trained"], _required(run.base_summary)
    exams = {
        name: {"trained": _required(run.exam(name))["trained"]}
        | {policy: _required(run.base_exam(name))[policy] for policy in ("base", "random")}
        for name in run.exams
    }
    return {
        "env_id": config.env.id,
        "model": config.model.base,
        "temperature": config.rollout.temperature,
        "environment_steps": curve["environment_steps"][-1],
        "trained": trained,
        "base": before["base"],
        "random": before["random"],
        "exams": exams,
        **({"benchmarks": {label: _benchmark(run, label) for label in run.benchmarks}} if run.benchmarks else {}),
        "threshold": study.threshold,
        "steps_to_threshold": None if at is None else curve["environment_steps"][at],
        "seconds_to_threshold": None if at is None else curve["seconds"][at],
        "seconds": curve["seconds"][-1],
        # A process that was killed cannot be asked any more what it had used.
        "cpu_seconds": usage["cpu_s"] if usage.get("attempts") == 1 else None,
        "attempts": usage.get("attempts"),
        "curve": curve,
        "fingerprint": run.home.name,
        "key": run.key,
        "code": surroundings.code(config)[:16],
        "versions": versions() | surroundings.about(),
        "machine": machine(),
    }


def _benchmark(run: Run, label: str) -> dict[str, Any]:
    """Scores of the base model and of the policy, in percent, and their difference, question by question."""
    ((name, compared),) = _required(run.comparison(label))["benchmarks"].items()
    overall = compared["overall"]
    sides, difference = {"base": overall["before"], "trained": overall["after"]}, overall["difference"]
    return {
        "benchmark": name,
        "synthetic": overall["synthetic"],
        **{side: {key: of[key] for key in ("score", "standard_error", "count")} for side, of in sides.items()},
        "chance": sides["base"]["metrics"].get("chance"),
        "difference": {
            **{key: difference[key] for key in ("mean", "standard_error", "count", "paired")},
            "least": difference.get("least"),  # not in reports of earlier versions
        },
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
        line = read_object(run.result)
        if line is not None:
            lines.append({**_about(study, run), **line})
    out.mkdir(parents=True, exist_ok=True)
    _write_text(out / "cells.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    _write_csv(out / "cells.csv", lines)
    return lines


def adopt(study: Study, runs: Sequence[Run], out: Path) -> int:
    """Takes over the results in cells.jsonl of cells that have not been run here: the same cell gives the same line.

    A folder of results that came with the project, or from another machine, is gone on with. Lines of cells that are
    not asked for, such as those of other seeds or of code before an edit, are kept in cells.others.jsonl.

    Returns:
        How many were taken over.

    Raises:
        UserError: the results are damaged.
    """
    others = out / "cells.others.jsonl"
    lines = [line for path in (others, out / "cells.jsonl") if path.exists() for line in read_lines(path)]
    known = {(line["fingerprint"], line.get("key")): line for line in lines}
    wanted = {(run.home.name, run.key) for run in runs}
    left = {json.dumps(line): None for line in lines if (line["fingerprint"], line.get("key")) not in wanted}
    if left or others.exists():
        _write_text(others, "".join(f"{line}\n" for line in left))
    adopted = 0
    for run in runs:
        line = known.get((run.home.name, run.key))
        if line is not None and not run.result.exists():
            run.home.mkdir(parents=True, exist_ok=True)
            write_json(run.result, {key: value for key, value in line.items() if key not in _about(study, run)})
            adopted += 1
    return adopted


def _about(study: Study, run: Run) -> dict[str, Any]:
    """What a line says of its cell; one may be a main one of one study and a point of the grid of another."""
    cell = run.cell
    about = {"study": study.name, "environment": cell.environment, "algorithm": cell.algorithm}
    return {**about, "kind": cell.kind, "variant": cell.variant, "seed": cell.seed}


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
        raise UserError(f"{path} is damaged ({error}); mend or delete it, and run the study again") from None


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no file.

    Raises:
        UserError: it is damaged.
    """
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
