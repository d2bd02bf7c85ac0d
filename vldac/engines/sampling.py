"""Draws the tokens of a response, each row from a generator of its own or all from one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor


class Sampler(LogitsProcessor):
    """Draws the next token itself and leaves transformers' greedy search one choice.

    transformers' own sampling takes its randomness from the process-wide generator, which other code also draws from;
    a run can only be resumed exactly if sampling owns its generator.

    Args:
        distribution: from logits (B, V) to log-probabilities (B, V).
        generator: of all rows, or one for each; None is the process-wide one.
        greedy: takes the likeliest token, and draws nothing.

    Attributes:
        log_probs: (B,) float32 for each token so far, of what was drawn.
    """

    def __init__(
        self,
        distribution: Callable[[Tensor], Tensor],
        generator: torch.Generator | Sequence[torch.Generator] | None,
        *,
        greedy: bool,
    ) -> None:
        self.distribution, self.generator, self.greedy = distribution, generator, greedy
        self.log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (B, V) that leave one token possible in each row."""
        log_probs = self.distribution(scores)
        if self.greedy:
            chosen = log_probs.argmax(-1, keepdim=True)
        elif isinstance(self.generator, Sequence):
            rows = zip(log_probs.exp(), self.generator, strict=True)
            chosen = torch.stack([torch.multinomial(row, 1, generator=own) for row, own in rows])
        else:
            chosen = torch.multinomial(log_probs.exp(), 1, generator=self.generator)
        self.log_probs.append(log_probs.gather(-1, chosen).squeeze(-1))
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)
