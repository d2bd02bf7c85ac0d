"""A training in progress is shown as it goes, and never waits for the server that shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from pipelines.core import rundir
from pipelines.core.errors import PipelineError
from pipelines.orchestration import artifacts, live, readable
from pipelines.orchestration.live import LiveProgress
from tests.integration.service_client import until
from vldac.config import Config

CONFIG = Config.model_validate({})


class Page:
    """Stands in for a Prefect server: keeps what it is shown, refuses while `away`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bars: list[tuple[UUID | None, float, str]] = []
        self.curves: list[tuple[UUID | None, bytes]] = []
        self.away = False
        monkeypatch.setattr(artifacts, "progress", self.progress)
        monkeypatch.setattr(artifacts, "curve_so_far", self.curve)

    def progress(self, artifact: UUID | None, percent: float, description: str) -> UUID:
        if self.away:
            raise ConnectionError("Connection refused")
        self.bars.append((artifact, percent, description))
        return artifact or uuid4()

    def curve(self, artifact: UUID | None, png: bytes, _: str) -> UUID:
        self.curves.append((artifact, png))
        return artifact or uuid4()


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    monkeypatch.setattr(live.train, "fingerprint", lambda _root, _config: "f00d")
    return Page(monkeypatch)


def row(update: int) -> dict[str, Any]:
    steps = update * CONFIG.steps_per_update
    return {
        "update": update,
        "environment_steps": steps,
        "episode/complete_until": steps,
        "episode/success": 1.0,  # of the two episodes of this update
        "episode/success_last_100": 0.5,
        "episode/success_last_100_count": 2 * update,
        "speed/environment_steps_per_s": 64.0,
    }


def write(run: rundir.RunDirectory, *updates: int) -> None:
    run.metrics.write_text("".join(json.dumps(row(update)) + "\n" for update in updates))
    (run.path / "episodes.jsonl").write_text('{"began": 0, "success": true, "return": 1.0, "length": 3}\n{"beg')


def test_progress_moves_one_bar_and_redraws_one_picture(tmp_path: Path, page: Page) -> None:
    with rundir.open_run(tmp_path / "runs", "f00d") as run:
        write(run, 1)
        with LiveProgress(tmp_path, CONFIG, print, interval=0.01, redraw=0.0):
            until(lambda: page.curves, 60, "the first picture")
            write(run, 1, 2, 3, 4, 5, 6, 7, 8)
            until(lambda: len(page.curves) == 2, 60, "the second picture")
    assert [percent for _, percent, _ in page.bars] == [100 / 32, 25.0]
    assert page.bars[0][0] is None
    assert page.bars[1][0] is not None
    shown = "success 0.50 [0.28, 0.72] (n 16), 64 steps/s, about 1 min 36 s left"
    assert page.bars[1][2] == f"2,048 of 8,192 environment steps, {shown}"
    assert "success" not in live.describe({"environment_steps": 256, "episode/success": 1.0}, 8192)  # not comparable
    assert page.curves[1][0] is not None
    assert all(png.startswith(b"\x89PNG") for _, png in page.curves)


def test_a_training_that_was_done_before_is_not_shown(tmp_path: Path, page: Page) -> None:
    with rundir.open_run(tmp_path / "runs", "f00d") as run:
        write(run, 1)
        run.mark_complete(256, run.metrics)
        with LiveProgress(tmp_path, CONFIG, print, interval=0.01):
            pass
    assert not page.bars


def test_a_server_that_is_away_is_one_line_and_is_told_when_it_is_back(tmp_path: Path, page: Page) -> None:
    said: list[str] = []
    page.away = True
    with rundir.open_run(tmp_path / "runs", "f00d") as run:
        write(run, 1)
        with LiveProgress(tmp_path, CONFIG, said.append, interval=0.01):
            until(lambda: said, 60, "the line")
            page.away = False
            until(lambda: page.bars, 60, "the bar")
    assert said == ["progress is not shown for now: it cannot be reached; training continues"]


def test_what_ends_the_training_is_not_held_up(tmp_path: Path, page: Page) -> None:
    said: list[str] = []
    page.away = True
    with rundir.open_run(tmp_path / "runs", "f00d") as run:
        write(run, 1)
        with pytest.raises(KeyboardInterrupt), LiveProgress(tmp_path, CONFIG, said.append, interval=3600.0) as live_:
            raise KeyboardInterrupt
    live_._thread.join(60)
    assert not page.bars
    assert said == []  # the line that says why it ended is the last


def test_an_expected_failure_is_one_line_in_the_log_and_a_bug_keeps_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import logging  # noqa: PLC0415

    readable.install()
    readable.install()
    log = logging.getLogger("prefect.flow_runs")
    assert sum(isinstance(each, readable.OneLine) for each in log.filters) == 1
    log.addHandler(caplog.handler)
    for error in (PipelineError("no such version; choose 1"), KeyError("bug")):
        try:
            raise error
        except (PipelineError, KeyError):
            log.exception("Encountered exception during execution")
    log.removeHandler(caplog.handler)
    expected, bug = caplog.records[0], caplog.records[-1]
    assert expected.getMessage() == "no such version; choose 1"
    assert expected.exc_info is None
    assert bug.exc_info is not None
