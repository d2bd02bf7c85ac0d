"""transformers' forward pass, one token at a time; rows that have ended leave the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache


class CachedDecoder:
    """See `vldac.models.adapter.Decoder`.

    Args:
        trunk: of a Hugging Face model, from inputs to `last_hidden_state`.
        inputs: the model's, for B prompts padded on the left.
        positions: (B, P) or (3, B, P) int64.
    """

    def __init__(self, trunk: Any, inputs: Mapping[str, Any], positions: Tensor) -> None:
        self.trunk, self.cache, self.mask = trunk, DynamicCache(config=trunk.config), inputs["attention_mask"]
        self.axes = positions.shape[:-2]
        following = positions.amax(-1) + 1
        self.next = following.amax(0) if self.axes else following
        self.states = self._last({**inputs, "position_ids": positions})

    def step(self, tokens: Tensor) -> Tensor:
        """Reads one more token of each row, (B,) int64; returns its last-layer hidden states, (B, H)."""
        self.mask = F.pad(self.mask, (0, 1), value=1)
        positions = self.next[:, None].expand(*self.axes, -1, 1)
        self.next = self.next + 1
        return self._last({"input_ids": tokens[:, None], "attention_mask": self.mask, "position_ids": positions})

    def keep(self, rows: Tensor) -> None:
        """Goes on with some of the rows only, (B,) bool."""
        self.cache.batch_select_indices(rows)
        self.mask, self.next = self.mask[rows], self.next[rows]

    def _last(self, inputs: Mapping[str, Any]) -> Tensor:
        output = self.trunk(**inputs, past_key_values=self.cache, use_cache=True)
        state: Tensor = output.last_hidden_state[:, -1]
        return state


def counted(attention_mask: Tensor) -> Tensor:
    """Positions (B, P) of tokens padded on the left, as most models count them: from 0, and 0 where padded."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
