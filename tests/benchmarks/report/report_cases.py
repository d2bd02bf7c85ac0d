"""Directories of finished benchmarks, as `benchmarks.harness.run.run_benchmark` leaves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.records import Record, Records
from benchmarks.harness.scores import in_percent, overall
from vldac.utils.files import write_json


def made(task: str, scores: Sequence[float], **changes: Any) -> list[Record]:
    values = {"prompt": "p", "images": ("i",), "answer": "a", "parsed": "A"} | changes
    return [Record(id=f"{task}-{i}", task=task, score=float(score), **values) for i, score in enumerate(scores)]


def by_task(records: Sequence[Record]) -> dict[str, Any]:
    tasks = dict.fromkeys(record.task for record in records)
    return overall({task: in_percent([r.score for r in records if r.task == task]) for task in tasks})


def write(
    home: Path,
    records: Sequence[Record],
    *,
    benchmark: str = "understanding",
    title: str = "General understanding",
    synthetic: bool = False,
    identity: Mapping[str, Any] | None = None,
    model: object = None,
    summarize: Callable[[Sequence[Record]], dict[str, Any]] = by_task,
) -> Path:
    """What `run_benchmark` leaves."""
    identity = {"benchmark": benchmark, **({"version": 1} if identity is None else identity)}
    with Records(home / benchmark, {**identity, "model": model or {"digest": home.name}}) as kept:
        for record in records:
            kept.add(record)
    summary = {
        "benchmark": benchmark,
        "title": title,
        "synthetic": synthetic,
        **summarize(records),
        "identity": identity,
    }
    write_json(home / benchmark / "summary.json", summary)
    return home
