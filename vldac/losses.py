"""The terms of the objective. Pure functions of tensors: (B, R) tokens of B environment steps, mask (B, R) bool.

Every term is a mean over steps of a mean over that step's response tokens, so a batch may be cut into passes
anywhere without changing its gradient, each weighted by its share of the steps.
"""

from __future__ import annotations

import torch
from torch import Tensor


def step_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over steps of the mean over each step's tokens: (B, R), (B, R) bool -> ()."""
    counts = mask.sum(-1).clamp(min=1)
    per_step = torch.where(mask, values, 0.0).sum(-1) / counts
    return per_step.mean()


def clipped_surrogate(ratios: Tensor, advantages: Tensor, clip: float, clip_higher: float | None = None) -> Tensor:
    """PPO's objective, min(r A, clip(r, 1 - clip, 1 + clip_higher) A), elementwise; `clip_higher` is `clip` if None."""
    upper = clip if clip_higher is None else clip_higher
    return torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + upper) * advantages)


def outside(ratios: Tensor, clip: float, clip_higher: float | None = None) -> Tensor:
    """Which ratios are beyond the limits of `clipped_surrogate`: 1.0 or 0.0, elementwise and without gradient."""
    upper = clip if clip_higher is None else clip_higher
    off = ratios.detach() - 1
    return ((off > upper) | (off < -clip)).float()


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """PPO's clipped surrogate on each token by itself (arXiv 2508.04280, the policy loss of VL-DAC).

    Args:
        log_probs: (B, R) of the response tokens under the weights being trained.
        old_log_probs: (B, R) under the weights that were sampled from.
        advantages: (B,) one number a step, shared by all of its tokens, or (B, R) one a token.
        mask: (B, R) bool, true on response tokens (the end-of-turn token included).
        clip: epsilon.

    Returns:
        The loss, and the ratios (B, R), 1 where masked out.
    """
    ratios = token_ratios(log_probs, old_log_probs, mask)
    return -step_mean(clipped_surrogate(ratios, of_tokens(advantages), clip), mask), ratios


def of_tokens(advantages: Tensor) -> Tensor:
    """Advantages (B,) or (B, R) such that they combine with tokens: (B, 1) or (B, R)."""
    return advantages.unsqueeze(-1) if advantages.ndim == 1 else advantages


def token_ratios(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> Tensor:
    """New over old probability of each token (B, R), 1 where masked out."""
    return torch.where(mask, log_probs - old_log_probs, 0.0).exp()


def kl_penalty(log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference) on each token: exp(d) - d - 1, d = reference - policy.

    It is never negative, is zero where the two agree, and its mean under the policy is the KL divergence.
    """
    difference = torch.where(mask, reference_log_probs - log_probs, 0.0)
    return step_mean(difference.exp() - difference - 1, mask)


def value_loss(values: Tensor, returns: Tensor) -> Tensor:
    """Half the squared error, (B,), (B,) -> ()."""
    return 0.5 * (values - returns).square().mean()
