"""Made-up batches and rollouts for tests of algorithms, and what a run on one rank passes to them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vldac import algorithms
from vldac.algorithms.base import Algorithm, RolloutTensors, TokenBatch
from vldac.config import TrainConfig

CLIP = 0.2


def alone(tensor: Tensor) -> Tensor:
    """The sum over the ranks of a run on one."""
    return tensor.clone()


def make(name: str, options: dict[str, Any] | None = None, **train: Any) -> Algorithm:
    return algorithms.make(TrainConfig(algorithm=name, algorithm_options=options or {}, clip=CLIP, **train))


def token_batch(steps: int = 8, width: int = 5, **changes: Any) -> TokenBatch:
    """Responses of 1 to `width` tokens in float64, with gradient; behind their ends is junk that no loss may read."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    old = draw(steps, width) - 2
    mask = torch.arange(width) < torch.tensor([1 + i % width for i in range(steps)])[:, None]
    new = (old + 0.2 * draw(steps, width)).requires_grad_()
    made = TokenBatch(new, old.masked_fill(~mask, -9.0), draw(steps), mask)
    return replace(made, **changes)


def surrogate(ratio: float, advantage: float, higher: float = CLIP) -> float:
    """PPO's objective of one ratio."""
    return min(ratio * advantage, min(max(ratio, 1 - CLIP), 1 + higher) * advantage)


def log_ratios(batch: TokenBatch) -> list[list[float]]:
    """Of each response, its tokens' log-ratios."""
    rows = zip(batch.log_probs.tolist(), batch.old_log_probs.tolist(), batch.mask.tolist(), strict=True)
    return [[p - q for p, q, keep in zip(*row, strict=True) if keep] for row in rows]


def token_ratios(batch: TokenBatch) -> list[list[float]]:
    return [[math.exp(number) for number in row] for row in log_ratios(batch)]


def rollout_tensors(steps: int, columns: int, *, tokens: bool = False) -> RolloutTensors:
    """Episodes that terminate, that are truncated, and that the rollout's end cuts; values of steps or of `tokens`."""
    generator = torch.Generator().manual_seed(3)
    ends = torch.rand(steps, columns, generator=generator)
    ended = (ends < 0.2) | (ends > 0.8)
    episodes = torch.cat([torch.zeros(1, columns, dtype=torch.int64), ended.long().cumsum(0)[:-1]])
    lengths = torch.randint(1, 6, (steps, columns), generator=generator)
    shapes = [(int(n),) if tokens else () for n in lengths.flatten()]
    return RolloutTensors(
        rewards=torch.randn(steps, columns, generator=generator),
        terminated=ends < 0.2,
        truncated=ends > 0.8,
        episodes=7 + episodes,
        response_lengths=lengths,
        values=[torch.randn(shape, generator=generator) for shape in shapes],
        next_values=torch.randn(steps, columns, generator=generator),
    )
