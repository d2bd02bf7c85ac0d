"""Directories of finished exams, as `benchmarks.exams.sit` leaves them behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.exam import in_percent, overall
from benchmarks.records import Record, Records
from vldac.checkpoint import write_json


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
    exam: str = "understanding",
    title: str = "General understanding",
    synthetic: bool = False,
    identity: Mapping[str, Any] | None = None,
    model: object = None,
    summarise: Callable[[Sequence[Record]], dict[str, Any]] = by_task,
) -> Path:
    """What `exams.sit` leaves behind."""
    identity = {"exam": exam, **({"version": 1} if identity is None else identity)}
    with Records(home / exam, {**identity, "model": model or {"digest": home.name}}) as kept:
        for record in records:
            kept.add(record)
    summary = {"exam": exam, "title": title, "synthetic": synthetic, **summarise(records), "identity": identity}
    write_json(home / exam / "summary.json", summary)
    return home
