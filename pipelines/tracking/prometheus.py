"""Metrics of running trainings in Prometheus' format: `vldac metrics`.

Training writes its metrics to a file after each update and knows nothing of who reads it. Here the last line of each
such file is read whenever Prometheus asks: a port that a training opened itself would be gone with it, one for each
rank and run, and would cost it time.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipelines.core.project import workspace

#: Seconds after which an unfinished run that writes nothing is not shown any more.
RECENT = 24 * 3600.0
_TAIL = 65_536  # bytes, many times a line
_LABELS = ("run", "environment", "seed")
#: By the metric's name and its description, the value of a line of metrics.jsonl.
_GAUGES = {
    "vldac_environment_steps_per_second": (
        "Environment steps of the last update, by its duration.",
        "speed/environment_steps_per_s",
    ),
    "vldac_success_ratio": (
        "Success of the last 100 episodes that compare fairly, 0 to 1.",
        "episode/success_last_100",
    ),
    "vldac_success_episodes": ("How many episodes that success is of.", "episode/success_last_100_count"),
    "vldac_invalid_actions_ratio": (
        "Share of responses that named no legal action, 0 to 1.",
        "rollout/invalid_actions",
    ),
}
_COUNTERS = {
    "vldac_updates": ("Updates of the policy so far.", "update"),
    "vldac_environment_steps": ("Environment steps so far.", "environment_steps"),
}


class Trainings(Collector):
    """The unfinished runs of a project that have written something lately, and the space that is left on its disk.

    Args:
        root: the project.
    """

    def __init__(self, root: Path) -> None:
        self._root = workspace(root)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told, once for each time that it asks."""
        free = GaugeMetricFamily("vldac_disk_free_bytes", "Bytes free on the disk of the project.")
        free.add_metric((), shutil.disk_usage(self._root).free)
        yield free
        written = GaugeMetricFamily(
            "vldac_last_update_timestamp_seconds", "When the last update was written, Unix time.", labels=_LABELS
        )
        rows = []
        for path in sorted((self._root / "runs").glob("*/metrics.jsonl")):
            try:
                since, row = path.stat().st_mtime, _last_row(path)
            except FileNotFoundError:  # it has been moved or removed meanwhile
                continue
            if row is not None:
                rows.append((_labels(path.parent), row))
                written.add_metric(rows[-1][0], since)
        yield written
        yield from _families(CounterMetricFamily, _COUNTERS, rows)
        yield from _families(GaugeMetricFamily, _GAUGES, rows)


def _families(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    metrics: dict[str, tuple[str, str]],
    rows: Iterable[tuple[tuple[str, ...], dict[str, Any]]],
) -> Iterator[Metric]:
    for name, (text, key) in metrics.items():
        family = kind(name, text, labels=_LABELS)
        for labels, row in rows:
            if isinstance(value := row.get(key), int | float):
                family.add_metric(labels, value)
        yield family


def _labels(run: Path) -> tuple[str, ...]:
    try:
        config = json.loads((run / "run-config.json").read_text(encoding="utf-8"))
        return run.name, str(config["env"]["id"]), str(config["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return run.name, "", ""


def _last_row(path: Path) -> dict[str, Any] | None:
    """The last complete line of a metrics.jsonl; None for a run that is finished, silent for long, or at its start."""
    if (path.parent / "complete.json").exists() or time.time() - path.stat().st_mtime > RECENT:
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        *_, last, _unfinished = (b"", *file.read().split(b"\n"))
    try:
        row = json.loads(last)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def serve(root: Path, host: str, port: int) -> None:
    """Serves `/metrics` until the process ends."""
    registry = CollectorRegistry()
    registry.register(Trainings(root))
    server, thread = start_http_server(port, addr=host, registry=registry)
    try:
        print(f"http://{host}:{port}/metrics  (Ctrl-C stops it)", flush=True)
        thread.join()
    finally:
        server.shutdown()
