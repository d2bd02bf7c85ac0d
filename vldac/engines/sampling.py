"""Draws the tokens of responses: each response from a seed of its own, by inverting the distribution function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """The randomness of B responses: (B, count) float64 in [0, 1), `count` numbers from each seed.

    They depend on the seed alone, neither on the rest of the batch nor on the device; fewer numbers from a seed are
    the first of more.
    """
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(count) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Samples by inverting the distribution function.

    Args:
        log_probs: (B, V), normalized; -inf for what is never drawn.
        uniform: (B,) float64 in [0, 1).

    Returns:
        (B, 1) int64, for each row the first index at which the cumulative probability exceeds its number.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    total = cumulative[:, -1:]  # 1 up to rounding
    target = torch.minimum(uniform.unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True)


def choose(log_probs: Tensor, uniform: Tensor | None) -> Tensor:
    """The next token of each row, (B, 1) int64: `draw`, or the likeliest where there is no randomness.

    Args:
        log_probs: (B, V), normalized; -inf for what is never chosen.
        uniform: (B,) float64 in [0, 1), or None.
    """
    return log_probs.argmax(-1, keepdim=True) if uniform is None else draw(log_probs, uniform)


class Sampler(LogitsProcessor):
    """Chooses the next tokens itself and leaves transformers' greedy search one choice.

    transformers' own sampling takes its randomness from the process-wide generator, which other code also draws from;
    here a response is decided by its prompt, the weights and its seed.

    Args:
        distribution: from logits (B, V) to log-probabilities (B, V).
        uniform: (B, max_new_tokens) float64 of `uniforms`; None takes the likeliest token.

    Attributes:
        log_probs: (B,) float32 for each token so far, of what was chosen.
    """

    def __init__(self, distribution: Callable[[Tensor], Tensor], uniform: Tensor | None) -> None:
        self.distribution, self.uniform = distribution, uniform
        self.log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (B, V) that leave one token possible in each row."""
        log_probs = self.distribution(scores)
        chosen = choose(log_probs, None if self.uniform is None else self.uniform[:, len(self.log_probs)])
        self.log_probs.append(log_probs.gather(-1, chosen).squeeze(-1))
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)
