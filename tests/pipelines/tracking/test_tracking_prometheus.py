"""What Prometheus reads of running trainings: from their files, over a real port, in its own format."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from pipelines.tracking.prometheus import RECENT, Trainings


def write(run: Path, updates: int, rest: str = "") -> Path:
    run.mkdir(parents=True)
    (run / "run-config.json").write_text(json.dumps({"env": {"id": "Hallway"}, "seed": 7}))
    rows = [
        {
            "update": update,
            "environment_steps": 64 * update,
            "speed/environment_steps_per_s": 12.5,
            "episode/success_last_100": update / 10,
        }
        for update in range(1, updates + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)
    return run


def test_running_trainings_are_shown_as_their_last_whole_line_says(tmp_path: Path) -> None:
    write(tmp_path / "runs/alive", 5000, rest='{"update": 50')  # longer than what is read of it; half a line is no line
    write(tmp_path / "runs/damaged", 1, rest="oops\n")
    (write(tmp_path / "runs/done", 3) / "complete.json").write_text("{}")
    silent = write(tmp_path / "runs/silent", 3) / "metrics.jsonl"
    os.utime(silent, (time.time() - RECENT - 60,) * 2)
    registry = CollectorRegistry()
    registry.register(Trainings(tmp_path))
    server, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as reply:
            text = reply.read().decode()
    finally:
        server.shutdown()
    samples = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    labels = {"run": "alive", "environment": "Hallway", "seed": "7"}
    for name, value in {
        "vldac_updates_total": 5000,
        "vldac_environment_steps_total": 320_000,
        "vldac_environment_steps_per_second": 12.5,
        "vldac_success_ratio": 500.0,
        "vldac_last_update_timestamp_seconds": pytest.approx((tmp_path / "runs/alive/metrics.jsonl").stat().st_mtime),
    }.items():
        assert samples[name].value == value
        assert samples[name].labels == labels
    assert samples["vldac_disk_free_bytes"].value == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert "done" not in text
    assert "silent" not in text
    assert "damaged" not in text
