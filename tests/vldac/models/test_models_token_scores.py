from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from vldac.models.token_scores import token_scores

POSITIONS, WIDTH, VOCABULARY = 23, 5, 11


def scored(chunk: int, *, entropies: bool = True) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Log-probabilities, entropies, and the gradients of states and head."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(POSITIONS, WIDTH, generator=generator).requires_grad_()
    head = torch.randn(VOCABULARY, WIDTH, generator=generator).requires_grad_()
    targets = torch.randint(0, VOCABULARY - 2, (POSITIONS,), generator=generator)
    forbidden = torch.arange(VOCABULARY) >= VOCABULARY - 2
    log_probs, of_tokens = token_scores(
        states,
        targets,
        lambda part: torch.log_softmax((part @ head.T).masked_fill(forbidden, -torch.inf), -1),
        forbidden if entropies else None,
        chunk=chunk,
    )
    (log_probs * torch.linspace(-1, 1, POSITIONS)).sum().backward()
    assert states.grad is not None
    assert head.grad is not None
    return log_probs.detach(), of_tokens, states.grad, head.grad


def test_chunks_score_as_the_whole_does_and_have_its_gradient() -> None:
    whole = scored(POSITIONS)
    for chunk in (1, 4, POSITIONS - 1):
        for mine, expected in zip(scored(chunk), whole, strict=True):
            assert mine is not None
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_entropies_are_those_of_the_distribution_and_only_made_on_demand() -> None:
    _, entropies, _, _ = scored(4)
    assert entropies is not None
    assert not entropies.requires_grad
    assert ((entropies > 0) & (entropies < torch.tensor(9.0).log())).all()
    assert scored(4, entropies=False)[1] is None


def test_distributions_are_made_again_in_the_backward_pass() -> None:
    made = []

    def distribution(part: Tensor) -> Tensor:
        made.append(len(part))
        return torch.log_softmax(part, -1)

    states = torch.randn(6, VOCABULARY).requires_grad_()
    log_probs, _ = token_scores(states, torch.zeros(6, dtype=torch.int64), distribution, chunk=4)
    assert made == [4, 2]
    log_probs.sum().backward()
    assert sorted(made) == [2, 2, 4, 4]


@pytest.mark.slow
def test_chunks_and_checkpoints_take_a_quarter_of_the_memory_for_the_same_gradient(
    tmp_path: Path,
) -> None:
    peaks, gradients = {}, {}
    for kind in ("plain", "saving"):
        out = tmp_path / f"{kind}.safetensors"
        command = [sys.executable, str(Path(__file__).with_name("memory_case.py")), str(out), kind]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
        env["MALLOC_MMAP_THRESHOLD_"] = (
            "65536"  # what is freed is given back: memory in use is compared, not what malloc keeps
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
        with safe_open(out, framework="pt") as file:
            peaks[kind] = float(file.metadata()["peak_mib"])
            gradients[kind] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    assert peaks["saving"] * 4 <= peaks["plain"], peaks
    largest = max(float(tensor.abs().max()) for tensor in gradients["plain"].values())
    assert largest > 0
    for name, tensor in gradients["plain"].items():
        torch.testing.assert_close(gradients["saving"][name], tensor, rtol=0, atol=1e-5 * largest)
