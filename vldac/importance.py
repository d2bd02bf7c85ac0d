"""Truncated importance sampling: responses of another engine, weighed as if the learner's network had sampled them.

An engine with kernels of its own samples from slightly other probabilities than the learner computes, and in bfloat16
not only slightly. PPO's ratio starts from the learner's own log-probabilities (old); what is left is the ratio of those
to what was sampled from, which weighs the policy loss. It is truncated, because it is a product over tokens and its
variance has no bound. TRL (`token_truncate`) and verl do the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from vldac.algorithms.base import Level
from vldac.distributed import Runtime


def truncated_weights(
    old: Sequence[Tensor], sampled: Sequence[Tensor], episodes: Tensor, level: Level, cap: float
) -> list[Tensor]:
    """min(exp(old - sampled), cap) at the level at which the algorithm takes its ratio.

    Args:
        old: T*N rows, each (R_i,), log-probabilities of the learner before the update.
        sampled: the same of the engine.
        episodes: (T, N) int64, which episode of its simulator each step belongs to.
        level: one weight a token, a step's response, or all responses of an episode in this rollout.
        cap: no weight is larger.

    Returns:
        T*N tensors, (R_i,) for tokens and () otherwise.
    """
    logs = [row - engine for row, engine in zip(old, sampled, strict=True)]
    if level != "token":
        logs = [row.sum() for row in logs]
    if level == "episode":
        columns = episodes.shape[1]
        keys = [(i % columns, number) for i, number in enumerate(episodes.flatten().tolist())]
        totals: dict[tuple[int, int], Tensor] = defaultdict(lambda: torch.zeros(()))
        for key, log in zip(keys, logs, strict=True):
            totals[key] = totals[key] + log
        logs = [totals[key] for key in keys]
    return [row.exp().clamp(max=cap) for row in logs]


def summary(weights: Sequence[Tensor], runtime: Runtime) -> dict[str, float]:
    """Metrics of weights over all ranks; every rank must call it.

    The effective sample size, as a share of the sample, is (sum w)^2 / (n sum w^2): 1 where all weights are equal.
    """
    every = torch.cat([weight.flatten() for weight in weights]).double()
    counted = torch.stack([torch.tensor(float(len(every)), dtype=torch.float64), every.sum(), every.square().sum()])
    count, total, squares = runtime.sum(counted).tolist()
    return {
        "importance/effective_sample_size": total**2 / (count * squares) if squares else 0.0,
        "importance/mean_weight": total / count,
        "importance/largest_weight": runtime.max(float(every.max())),
    }
