"""A supervised loop that is killed, and one that is not."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vldac import checkpoint, loop_state, warm_start
from vldac.loop_state import LoopState
from vldac.utils.progress import Progress


class Killed(Exception):
    pass


def learn(updates: int, directory: Path | None, identity: str = "a", die_after: int | None = None) -> list[float]:
    """The losses of a small regression that draws its data, from where the loop has been kept."""
    torch.manual_seed(0)
    model, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
    optimizer = torch.optim.AdamW([{"params": model.parameters()}, {"params": head.parameters()}], lr=1e-2)
    rng = np.random.default_rng(1)
    state = LoopState(directory, identity, {"model": model, "head": head}, optimizer, rng)
    begun, rest = state.resume()
    losses: list[float] = rest.get("losses", [])
    assert len(losses) == begun
    for update in range(begun, updates):
        x = torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32))
        loss = (head(model(x)) - x.sum(dim=1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if update == die_after:
            raise Killed
        state.keep(update + 1, {"losses": losses})
    return losses


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_state, "INTERVAL", 0.0)


def test_a_killed_loop_goes_on_to_the_same_losses(tmp_path: Path) -> None:
    whole = learn(20, None)
    with pytest.raises(Killed):
        learn(20, tmp_path / "kept", die_after=11)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["update-000011"]
    assert learn(20, tmp_path / "kept") == whole
    assert learn(20, tmp_path / "kept") == whole  # nothing is left to do


def test_a_state_of_something_else_or_a_damaged_one_is_not_gone_on_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = learn(6, tmp_path / "kept")
    with caplog.at_level(logging.WARNING):
        assert learn(6, tmp_path / "kept", identity="b") == whole
    assert "is of other parameters or other code" in caplog.text
    with pytest.raises(Killed):
        learn(6, tmp_path / "kept", identity="c", die_after=3)  # fewer updates than what is there of another
    (kept,) = (tmp_path / "kept").iterdir()
    assert (kept.name, json.loads((kept / "state.json").read_text())["identity"]) == ("update-000003", "c")
    assert learn(6, tmp_path / "kept", identity="c") == whole
    (kept,) = (tmp_path / "kept").iterdir()
    (kept / "state.json").write_text(json.dumps({"identity": "b"}))
    with pytest.raises(checkpoint.CheckpointError, match="changed since it was written"):
        checkpoint.verify(kept)
    with pytest.raises(Killed):
        learn(6, tmp_path / "kept", identity="b", die_after=3)  # fewer updates than the damaged one
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["update-000003"]
    assert learn(6, tmp_path / "kept", identity="b") == whole


def test_nothing_is_written_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_state, "INTERVAL", 3600.0)
    learn(3, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("phase", ["dense labels", "warm start"])
def test_a_base_model_that_is_killed_is_that_of_one_that_is_not(
    phase: str, tiny_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config({"warm_start": {"updates": 6, "dense_updates": 6}})
    measured = warm_start.run(config, tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))
    advance, calls, current = Progress.advance, itertools.count(), [""]
    begin = Progress.__init__

    def started(self: Progress, title: str, *rest: Any, **more: Any) -> None:
        current[0] = title
        begin(self, title, *rest, **more)

    def dying(self: Progress, count: int = 1, note: str | None = None) -> None:
        if current[0] == phase and next(calls) == 4:
            raise Killed
        advance(self, count, note)

    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/model.safetensors").write_text("of a base before")
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "__init__", started)
        patch.setattr(Progress, "advance", dying)
        with pytest.raises(Killed):
            warm_start.run(config, tmp_path / "killed")
    kept = tmp_path / ".killed.unfinished"
    assert {path.name for path in kept.iterdir()} >= {"dense"}
    # What has learned nothing yet does not take the place of what was there.
    assert [path.read_text() for path in (tmp_path / "killed").iterdir()] == ["of a base before"]
    assert warm_start.run(config, tmp_path / "killed") == measured
    assert not kept.exists()
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
