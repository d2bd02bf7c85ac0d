"""Log-probabilities and entropies of tokens, without the logits of a whole batch in memory at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed

#: Numbers of the distributions that are in memory at once, 64 MiB in float32: 110 positions of Qwen's vocabulary.
CHUNK = 2**24


def token_scores(
    states: Tensor,
    targets: Tensor,
    distribution: Callable[[Tensor], Tensor],
    forbidden: Tensor | None = None,
    *,
    chunk: int,
) -> tuple[Tensor, Tensor | None]:
    """Scores P tokens, `chunk` of them at a time; distributions are computed again in the backward pass.

    Args:
        states: (P, H) hidden states from which the tokens are predicted.
        targets: (P,) int64, the tokens.
        distribution: from hidden states (C, H) to log-probabilities (C, V) float32.
        forbidden: (V,) bool, tokens whose log-probability is -inf; entropies are computed where it is given.
        chunk: positions at once. A batch of fewer is scored as it is, which is faster.

    Returns:
        Log-probabilities (P,) float32, with gradient, and entropies (P,) float32, detached, or None.
    """

    def score(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor | None]:
        log_probs = distribution(part)
        entropies = None
        if forbidden is not None:
            known = log_probs.detach()
            entropies = -(known.exp() * known.masked_fill(forbidden, 0.0)).sum(-1)
        return log_probs.gather(-1, wanted.unsqueeze(-1)).squeeze(-1), entropies

    if len(states) <= chunk:
        return score(states, targets)
    again = torch.is_grad_enabled()
    parts = [
        recomputed(score, *pair, use_reentrant=False) if again else score(*pair)
        for pair in zip(states.split(chunk), targets.split(chunk), strict=True)
    ]
    log_probs, entropies = zip(*parts, strict=True)
    return torch.cat(log_probs), None if forbidden is None else torch.cat(entropies)
