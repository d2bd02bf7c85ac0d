"""TensorBoard and Weights & Biases beside metrics.jsonl, from the first row on and after a resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vldac import trackers
from vldac.config import Config, parse
from vldac.run_log import RunLog
from vldac.utils.errors import UserError


def run_log(run_dir: Path, *, main: bool = True) -> RunLog:
    runtime: Any = SimpleNamespace(is_main=main)
    return RunLog(run_dir / "metrics.jsonl", runtime)


def row(update: int, **values: Any) -> dict[str, Any]:
    return {"update": update, "environment_steps": 8 * update, "loss": 1 / update, **values}


def config(**tracking: bool) -> Config:
    return parse({"tracking": tracking})


class FakeRun:
    """What a server of Weights & Biases keeps of a run."""

    def __init__(self) -> None:
        self.step, self.rows, self.finished = 0, list[tuple[int, dict[str, float]]](), 0

    def log(self, values: dict[str, float], *, step: int) -> None:
        assert step >= self.step
        self.step = step + 1
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake, runs, asked = ModuleType("wandb"), dict[str, FakeRun](), list[dict[str, Any]]()
    fake.__spec__ = SimpleNamespace(name="wandb")  # type: ignore[assignment]  # what find_spec looks at

    def init(**options: Any) -> FakeRun:
        asked.append(options)
        return runs.setdefault(options["id"], FakeRun())

    monkeypatch.setattr(fake, "init", init, raising=False)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return SimpleNamespace(runs=runs, asked=asked, fake=fake)


def test_a_run_and_its_resumption_are_one_run_of_wandb(tmp_path: Path, wandb: Any) -> None:
    switched = config(wandb=True)
    log = run_log(tmp_path)
    log.truncate(0)
    with trackers.following(log, switched):
        log.append([row(1, name="x", bad=float("nan"))])
        log.append([row(2)])
    log = run_log(tmp_path)
    log.truncate(1)  # killed before the checkpoint of update 2, which is made again
    with trackers.following(log, switched):
        log.append([row(2)])
        log.append([row(3)])
    (run,) = wandb.runs.values()
    assert [step for step, _ in run.rows] == [8, 16, 24]
    assert run.rows[0][1].keys() == {"update", "loss", "time_s"}
    assert run.finished == 2
    assert [options["resume"] for options in wandb.asked] == ["allow", "allow"]
    assert wandb.asked[0]["config"]["env"]["id"] == switched.env.id
    assert [json.loads(line)["update"] for line in log.path.read_text().splitlines()] == [1, 2, 3]


def test_a_tracker_that_is_switched_on_late_gets_every_row(tmp_path: Path, wandb: Any) -> None:
    log = run_log(tmp_path)
    log.truncate(0)
    with trackers.following(log, config()):
        log.append([row(1)])
    assert not wandb.runs
    with trackers.following(log, config(wandb=True)):
        pass
    assert [step for step, _ in next(iter(wandb.runs.values())).rows] == [8]


def test_a_tracker_that_cannot_begin_stops_nothing(
    tmp_path: Path, wandb: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("no\nlogin")

    monkeypatch.setattr(wandb.fake, "init", refuse)
    log = run_log(tmp_path)
    log.truncate(0)
    with trackers.following(log, config(wandb=True)):
        log.append([row(1)])
    assert capsys.readouterr().err == "warning: without wandb: no login\n"
    assert len(log.rows()) == 1


def test_other_ranks_have_no_tracker(tmp_path: Path, wandb: Any) -> None:
    with trackers.following(run_log(tmp_path, main=False), config(wandb=True)):
        pass
    assert not wandb.asked


def test_a_missing_package_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _name: None)
    trackers.require(config())
    with pytest.raises(UserError, match=r"tracking\.tensorboard needs .* install it with: pip install tensorboard"):
        trackers.require(config(tensorboard=True))


def test_event_files_hold_what_metrics_hold(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    switched, log = config(tensorboard=True), run_log(tmp_path)
    for resumed, updates in ((0, (1, 2)), (1, (2, 3))):
        log.truncate(resumed)
        with trackers.following(log, switched):
            for update in updates:
                log.append([row(update)])
        log = run_log(tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (8, 1.0),
        (16, 0.5),
        (24, pytest.approx(1 / 3)),
    ]
    assert set(events.Tags()["scalars"]) == {"update", "loss", "time_s"}
    (text,) = events.Tensors("config/text_summary")
    assert "wandb" in text.tensor_proto.string_val[0].decode()
