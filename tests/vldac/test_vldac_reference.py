from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import reference_cases
import torch
from ranks import run_ranks
from torch import Tensor, nn

from vldac import reference
from vldac.distributed import Runtime
from vldac.reference import Reference

FULL: dict[str, Any] = {
    "model": {"lora_rank": 0},
    "train": {"batch_size": 8, "micro_batch_size": 4, "value_warmup": 0, "total_steps": 64, "kl_coefficient": 0.1},
}


def bits(tensors: Any) -> list[bytes]:
    return [tensor.detach().clone().view(-1).view(torch.uint8).numpy().tobytes() for tensor in tensors]


class Tied(nn.Module):
    """A matrix that is used twice, a frozen one and a buffer."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding, self.frozen = (
            nn.Embedding(5, 3, dtype=dtype),
            nn.Linear(3, 3, dtype=dtype).requires_grad_(False),
        )
        self.head = nn.Linear(3, 5, bias=False, dtype=dtype)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.full((), 0.5, dtype=dtype))

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.frozen(self.embedding(ids))) * self.scale
        return logits


def engine(dtype: torch.dtype = torch.float32) -> Any:
    """As much of an engine below ZeRO stage 3 as a reference needs."""
    torch.manual_seed(1)
    module = Tied(dtype)
    return SimpleNamespace(module=module, optimizer=object(), device=torch.device("cpu"))


def train(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.7)
                parameter.view(-1)[0] = torch.nan


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("piece", [1, 4, 2**24])
def test_weights_change_places_bit_by_bit_and_in_place(
    dtype: torch.dtype, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "_PIECE", piece)
    made, ids = engine(dtype), torch.arange(5)
    module = made.module
    said, start = module(ids), bits(module.parameters())
    kept = Reference(made)
    assert sum(tensor.numel() for tensor in kept.kept) == 5 * 3  # once what is used twice, and nothing that is frozen
    train(module)
    trained, places = bits(module.parameters()), [p.data_ptr() for p in module.parameters()]
    assert trained != start
    for _ in range(2):
        with kept.in_place():
            assert bits(module.parameters()) == start
            assert torch.equal(module(ids), said)
        assert bits(module.parameters()) == trained
    assert [p.data_ptr() for p in module.parameters()] == places  # where flat buffers hold them
    assert module.head.weight is module.embedding.weight


def test_an_error_within_gives_the_trained_weights_back() -> None:
    made = engine()
    kept = Reference(made)
    train(made.module)
    trained = bits(made.module.parameters())
    with pytest.raises(ValueError, match="within"), kept.in_place():
        raise ValueError("within")
    assert bits(made.module.parameters()) == trained


def test_an_error_on_the_way_gives_the_trained_weights_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_PIECE", 4)
    made, exchange, calls = engine(), reference._exchange, []

    def full_at_the_third(piece: Tensor, kept: Tensor) -> None:
        calls.append(piece)
        if len(calls) == 3:
            raise torch.OutOfMemoryError
        exchange(piece, kept)

    kept = Reference(made)
    train(made.module)
    trained = bits(made.module.parameters())
    monkeypatch.setattr(reference, "_exchange", full_at_the_third)
    with pytest.raises(torch.OutOfMemoryError), kept.in_place():
        pytest.fail("the weights are of two models")
    assert bits(made.module.parameters()) == trained
    assert len(calls) == 5


def require_as_a_copy(found: dict[str, Any]) -> None:
    """The reference says bit by bit what a copy of the base model says, and nothing of what is trained has changed."""
    assert bits(found["reference"]) == bits(found["copy"])
    assert bits(found["reference"]) != bits(found["policy"])
    before, *later = found["weights"]
    for weights in later:
        assert bits(weights.values()) == bits(before.values())


def require_same_state(out: Path) -> None:
    before, after = (
        {p.name: p.read_bytes() for p in sorted((out / name).rglob("*.*"))} for name in ("before", "after")
    )
    assert len(before) > 1
    assert before == after


def test_the_reference_is_as_a_copy_of_the_base_model(
    tiny_config: Any, tiny_base: Path, runtime: Runtime, tmp_path: Path
) -> None:
    require_as_a_copy(reference_cases.run_case(tiny_config(FULL), tiny_base, runtime, tmp_path))
    require_same_state(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "dtype"), [(0, "bfloat16"), (1, "float32"), (2, "bfloat16"), (3, "float32"), (3, "bfloat16")]
)
def test_the_reference_of_two_ranks_is_as_a_copy_at_every_zero_stage(
    stage: int, dtype: str, tiny_params: Any, tiny_base: Path, tmp_path: Path
) -> None:
    model = {**FULL["model"], "dtype": dtype}
    params = tiny_params({**FULL, "model": model, "deepspeed": {"ranks": 2, "zero_stage": stage}})
    for found in run_ranks(reference_cases.run_case, tiny_base, params, out=tmp_path):
        require_as_a_copy(found)
    require_same_state(tmp_path)
