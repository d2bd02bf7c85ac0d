"""Advantages over environment steps. Pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(  # noqa: PLR0917  # the symbols of the equation, in its order
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimation (arXiv 1506.02438, equation 16), one number an environment step.

    A terminated step has no future. A truncated one (a time limit) has: its advantage is bootstrapped from the value
    of the final observation, but nothing of the next episode flows back over it.

    Args:
        rewards: (T, N) float, reward of each step of N simulators.
        values: (T, N) float, V(s_t).
        next_values: (T, N) float, V of the observation that followed step t: the final observation where the episode
            ended there, not the first one of the next episode.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: discount of an environment step.
        gae_lambda: lambda.

    Returns:
        (T, N) float advantages.
    """
    deltas = rewards + gamma * next_values * ~terminated - values
    carried = gamma * gae_lambda * (~(terminated | truncated)).to(rewards.dtype)
    advantages = torch.zeros_like(deltas)
    running = torch.zeros_like(deltas[0])
    for t in range(len(deltas) - 1, -1, -1):
        running = deltas[t] + carried[t] * running
        advantages[t] = running
    return advantages


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns); 0 where the returns do not vary."""
    variance = returns.var(unbiased=False)
    if variance < 1e-12:
        return 0.0
    return float(1 - (returns - values).var(unbiased=False) / variance)
