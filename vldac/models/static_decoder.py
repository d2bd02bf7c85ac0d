"""transformers' forward pass with a cache of fixed size, so that a token can be one call of a compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import StaticCache

#: Tokens by which caches differ in length: each length is compiled, and each batch size.
_LENGTHS = 128
#: Caches that are kept.
_CACHES = 2
#: Graphs at most; shapes beyond them are run without one. Evaluations end with ever smaller batches.
_GRAPHS = 64


class CompiledTrunk:
    """A trunk whose steps are compiled, and the cache of its last batch.

    A cache is used again for a batch of the same size, because a graph of CUDA is bound to where its tensors lie.
    Those of the last two sizes are kept: prompts that are now longer and now shorter than a multiple of `_LENGTHS` take
    turns.

    Args:
        trunk: of a Hugging Face model, from inputs to `last_hidden_state`.
    """

    def __init__(self, trunk: Any) -> None:
        self.trunk = trunk
        graphs = next(trunk.parameters()).is_cuda
        compiler: Any = torch.compile  # whose annotations do not know of the limit
        self.step: Callable[..., Any] = compiler(
            trunk.forward,
            dynamic=False,
            mode="reduce-overhead" if graphs else "default",
            recompile_limit=_GRAPHS,
        )
        self._caches: dict[tuple[int, int], StaticCache] = {}  # the one that was used last is the last

    def cache(self, rows: int, tokens: int) -> StaticCache:
        """An empty cache for `rows` sequences of at most `tokens` tokens."""
        shape = (rows, -(-tokens // _LENGTHS) * _LENGTHS)
        found = self._caches.pop(shape, None)
        if found is None:
            while len(self._caches) >= _CACHES:  # before another one is made: it may be gigabytes
                del self._caches[next(iter(self._caches))]
            found = StaticCache(config=self.trunk.config, max_cache_len=shape[1])
        found.reset()
        self._caches[shape] = found
        return found


class StaticDecoder:
    """See `vldac.models.adapter.Decoder`. Every step is one of the whole batch, whatever rows have ended.

    Args:
        compiled: the trunk.
        inputs: the model's, for B prompts padded on the left.
        positions: (B, P) or (3, B, P) int64.
        room: tokens that a response may have.
    """

    def __init__(self, compiled: CompiledTrunk, inputs: Mapping[str, Any], positions: Tensor, room: int) -> None:
        self.compiled = compiled
        rows, width = inputs["attention_mask"].shape
        self.cache = compiled.cache(rows, width + room)
        # As long as the cache from the start: what is not written yet comes later, and is not looked at.
        self.mask = F.pad(inputs["attention_mask"], (0, self.cache.get_max_length() - width), value=1)
        self.axes = positions.shape[:-2]
        following = positions.amax(-1) + 1
        self.next = following.amax(0) if self.axes else following
        self.tokens = torch.zeros(rows, dtype=torch.long, device=self.mask.device)
        self.rows = torch.arange(rows, device=self.mask.device)
        self.states = self._last(compiled.trunk, {**inputs, "attention_mask": self.mask, "position_ids": positions})

    def step(self, tokens: Tensor) -> Tensor:
        """Reads one more token of each row, (B,) int64; returns its last-layer hidden states, (B, H)."""
        self.tokens[self.rows] = tokens
        positions = self.next[:, None].expand(*self.axes, -1, 1)
        inputs = {"input_ids": self.tokens[:, None], "attention_mask": self.mask, "position_ids": positions}
        self.next = self.next + 1
        return self._last(self.compiled.step, inputs)[self.rows]

    def keep(self, rows: Tensor) -> None:
        """Goes on with some of the rows only, (B,) bool."""
        self.rows = self.rows[rows]

    def _last(self, forward: Callable[..., Any], inputs: Mapping[str, Any]) -> Tensor:
        output = forward(**inputs, past_key_values=self.cache, use_cache=True)
        # A graph of CUDA writes its next result where this one lies.
        state: Tensor = output.last_hidden_state[:, -1].clone()
        return state
