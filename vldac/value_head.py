"""The critic: one value for each environment step, read from a hidden state it cannot change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """MLP on the standardized, detached hidden state of the last prompt token (arXiv 2508.04280, section 3).

    The states of one environment differ little beside their mean (a few percent of its size), so each feature is
    brought to mean 0 and deviation 1 by statistics of the first rollout, which are kept with the weights. The head is
    float32 whatever the backbone is, and starts at value 0 for every state.

    Args:
        hidden_size: features of the hidden state.
        sizes: widths of the hidden layers; the released code's are (3072, 2048).
    """

    mean: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, hidden_size: int, sizes: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = hidden_size
        for size in sizes:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)
        self.register_buffer("mean", torch.zeros(hidden_size))
        self.register_buffer("scale", torch.ones(hidden_size))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, states: Tensor, *, stop_gradient: bool = True) -> Tensor:
        """Values (...) float32 of hidden states (..., H); no gradient reaches the states unless it is let through."""
        standardized = ((states.detach() if stop_gradient else states).float() - self.mean) * self.scale
        values: Tensor = self.layers(standardized).squeeze(-1)
        return values

    @torch.no_grad()
    def fit_standardization(self, mean: Tensor, variance: Tensor) -> None:
        """Fixes the input statistics: feature means and variances, each (H,)."""
        self.mean.copy_(mean)
        self.scale.copy_((variance.sqrt() + 1e-3).reciprocal())
        self.fitted.fill_(True)
