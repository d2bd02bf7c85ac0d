"""What is read of a checkpoint: the state of every ZeRO stage, and nothing that runs a program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_cases import make_learner, weights_of

from vldac.checkpoint import CheckpointError
from vldac.critic import Critic
from vldac.distributed import Runtime


class Touch:
    """A pickle of it makes a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_state_of_every_zero_stage_is_read(
    stage: int, dtype: str, tiny_config: Any, tiny_base: Path, runtime: Runtime, tmp_path: Path
) -> None:
    config = tiny_config({"model": {"dtype": dtype}, "deepspeed": {"zero_stage": stage}})
    learner = make_learner(config, tiny_base, runtime)
    with torch.no_grad():
        for parameter in learner.vlm.parameters():
            parameter.mul_(1.25)
    learner.save(tmp_path)
    before = weights_of(learner)
    other = make_learner(config, tiny_base, runtime)
    other.load(tmp_path)
    after = weights_of(other)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_planted_pickle_is_refused_and_not_run(
    tiny_config: Any, tiny_base: Path, runtime: Runtime, tmp_path: Path
) -> None:
    learner = make_learner(tiny_config(), tiny_base, runtime)
    learner.save(tmp_path)
    planted = tmp_path / "ran"
    files = [path for path in tmp_path.rglob("*.pt") if path.parent.name == "engine"]
    assert len(files) == 2
    for path in files:
        kept = path.read_bytes()
        torch.save({"module": Touch(planted)}, path)
        with pytest.raises(CheckpointError, match=rf"{path.name} holds something other than the state of a run, and"):
            learner.load(tmp_path)
        path.write_bytes(kept)
    assert not planted.exists()
    torch.load(path, weights_only=False)  # the file itself is sound
    torch.save({"value_head": Touch(planted)}, tmp_path / "critic.pt")
    assert isinstance(learner.critic, Critic)
    with pytest.raises(CheckpointError, match=r"critic\.pt holds something other"):
        learner.load(tmp_path)
    assert not planted.exists()
