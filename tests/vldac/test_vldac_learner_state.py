"""What a saved learner holds; that it resumes, on any number of ranks, is tested with the learner."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from vldac import learner_state
from vldac.learner_state import LearnerStateError


def engine(steps: int, *, width: int = 3) -> Any:
    """As much of an engine without ZeRO as a state needs, after some steps of Adam."""
    torch.manual_seed(width)
    module = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))
    module[0].bias.requires_grad_(False)
    adam = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        module(torch.ones(4, 2)).square().mean().backward()
        adam.step()
        adam.zero_grad()
    return SimpleNamespace(module=module, optimizer=adam, basic_optimizer=adam)


def tensors(directory: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in directory.glob("*"):
        assert path.suffix == ".safetensors"
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    return found


@pytest.mark.parametrize("steps", [0, 3])
def test_a_state_is_safetensors_and_continues_as_it_was(steps: int, tmp_path: Path) -> None:
    one, other = engine(steps), engine(0)
    learner_state.save(one, tmp_path, is_main=True)
    names = {"0.weight", "1.weight", "1.bias"}  # what is trained
    kinds = {f"{kind}.{name}" for kind in ("weight", "exp_avg", "exp_avg_sq") for name in names}
    assert tensors(tmp_path).keys() == kinds | {"steps"}
    learner_state.load(other, tmp_path)
    for each in (one, other):
        each.module(torch.ones(4, 2)).square().mean().backward()
        each.optimizer.step()
    for mine, theirs in zip(one.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_large_state_is_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_state, "_SHARD", 20)
    one, other = engine(2), engine(0)
    learner_state.save(one, tmp_path, is_main=True)
    assert len(list(tmp_path.iterdir())) > 3
    learner_state.load(other, tmp_path)
    assert torch.equal(other.module[0].weight, one.module[0].weight)


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    learner_state.save(engine(1), tmp_path, is_main=False)
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_other_parameters_or_none_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LearnerStateError, match="does not hold the state"):
        learner_state.load(engine(0), tmp_path)
    learner_state.save(engine(1), tmp_path, is_main=True)
    other = engine(0)
    other.module[0].bias.requires_grad_(True)
    with pytest.raises(LearnerStateError, match="does not hold the state") as caught:
        learner_state.load(other, tmp_path)
    assert "\n" not in str(caught.value)
