"""Advantages over environment steps, over tokens, and over whole episodes. Pure functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence

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
    lost: Tensor | None = None,
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
        lost: (T, N) bool, steps that were lost with their simulator: nothing is known of what they have led to, so that
            their advantage is 0. None for none.

    Returns:
        (T, N) float advantages.
    """
    deltas = rewards + gamma * next_values * ~terminated - values
    if lost is not None:
        deltas = deltas.masked_fill(lost, 0.0)
    carried = gamma * gae_lambda * (~(terminated | truncated)).to(rewards.dtype)
    advantages = torch.zeros_like(deltas)
    running = torch.zeros_like(deltas[0])
    for t in range(len(deltas) - 1, -1, -1):
        running = deltas[t] + carried[t] * running
        advantages[t] = running
    return advantages


def token_gae(
    rewards: Tensor,
    values: Sequence[Tensor],
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    token_gamma: float,
    token_lambda: float,
    lost: Tensor | None = None,
) -> list[Tensor]:
    """Generalized advantage estimation over the tokens of an episode, whose last token in each step has the reward.

    From a token to the next one of its response the discount is `token_gamma` and lambda is `token_lambda`. From the
    last token of a response to the first one of the next they are `gamma` and `gae_lambda`: there time passes. Ends are
    treated as by `gae`.

    Args:
        rewards: (T, N) float, reward of each step of N simulators.
        values: T*N tensors in the order of the steps (t, n), each (R_i,): the value before each token of the response.
        next_values: (T, N) float, the value before the first token of what followed step t, as for `gae`.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: discount of an environment step.
        gae_lambda: lambda from one environment step to the next.
        token_gamma: discount of a token.
        token_lambda: lambda from one token of a response to the next.
        lost: as for `gae`: all tokens of such a step have advantage 0.

    Returns:
        T*N tensors like `values`.
    """
    steps, columns = rewards.shape
    going_on = ~(terminated | truncated)
    after = (gamma * next_values * ~terminated).tolist()  # Python's floats are double, and fast one by one
    advantages: list[Tensor] = [torch.empty(0)] * (steps * columns)
    for n in range(columns):
        running = 0.0  # the advantage of the first token of the following step
        for t in range(steps - 1, -1, -1):
            before = values[t * columns + n].tolist()
            if lost is not None and lost[t, n]:
                running = 0.0
                advantages[t * columns + n] = torch.zeros(len(before))
                continue
            carried = gamma * gae_lambda * running if going_on[t, n] else 0.0
            running = float(rewards[t, n]) + after[t][n] - before[-1] + carried
            row = [running]
            for value, following in zip(before[-2::-1], before[:0:-1], strict=True):
                running = token_gamma * following - value + token_gamma * token_lambda * running
                row.append(running)
            advantages[t * columns + n] = torch.tensor(row[::-1])
    return advantages


def episode_numbers(episodes: Tensor) -> Tensor:
    """Which episode of the rollout each step (T, N) belongs to, from 0 on in each simulator."""
    return episodes - episodes[0]


def episode_returns(rewards: Tensor, ended: Tensor, numbers: Tensor, gamma: float) -> Tensor:
    """What each episode of a rollout has returned, discounted from its first step on.

    Args:
        rewards: (T, N) float.
        ended: (T, N) bool, true where an episode terminated or was truncated.
        numbers: (T, N) int64, of `episode_numbers`.
        gamma: discount of an environment step.

    Returns:
        (E, N) float, NaN where simulator n has no episode e or it has not ended.
    """
    shape = int(numbers.max()) + 1, numbers.shape[1]
    lengths = torch.zeros(shape, dtype=torch.int64).scatter_add_(0, numbers, torch.ones_like(numbers))
    first = lengths.cumsum(0) - lengths
    steps = torch.arange(len(numbers)).unsqueeze(-1) - first.gather(0, numbers)
    returns = torch.zeros(shape, dtype=rewards.dtype).scatter_add_(0, numbers, rewards * gamma**steps)
    complete = torch.zeros(shape, dtype=torch.int64).scatter_add_(0, numbers, ended.long()).bool()
    return returns.masked_fill(~complete, torch.nan)


def leave_one_out(returns: Tensor) -> Tensor:
    """Each return less the mean of the others of its group (arXiv 2502.01600, section 4).

    Args:
        returns: (..., K) of the episodes of a group; NaN for one that does not count.

    Returns:
        (..., K), 0 where an episode does not count or is alone.
    """
    counts = (~returns.isnan()).sum(-1, keepdim=True)
    others = (returns.nansum(-1, keepdim=True) - returns) / (counts - 1)
    return torch.where(counts > 1, returns - others, 0.0).nan_to_num(0.0)


def group_relative(returns: Tensor, *, scale: bool) -> Tensor:
    """Each return less the mean of its group, over the group's standard deviation (arXiv 2402.03300, section 4.1.2).

    Args:
        returns: (..., K) of the episodes of a group; NaN for one that does not count.
        scale: whether to divide by the standard deviation, that of a sample, plus 1e-4.

    Returns:
        (..., K), 0 where an episode does not count or is alone.
    """
    counts = (~returns.isnan()).sum(-1, keepdim=True)
    centered = returns - returns.nanmean(-1, keepdim=True)
    if scale:
        centered = centered / ((centered.square().nansum(-1, keepdim=True) / (counts - 1)).sqrt() + 1e-4)
    return torch.where(counts > 1, centered, 0.0).nan_to_num(0.0)


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns); 0 where the returns do not vary."""
    variance = returns.var(unbiased=False)
    if variance < 1e-12:
        return 0.0
    return float(1 - (returns - values).var(unbiased=False) / variance)
