"""The reference policy of full fine-tuning: the weights that a run began with, on the host until they are asked for.

Once a rollout they change places with the trained weights, so that the device holds one model at any time. An adapter
needs none of this: without it, the model is its own reference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

#: Numbers that change places at once, of which the device holds a second copy meanwhile; pinned memory is given out in
#: powers of two.
_PIECE = 2**24


class Reference:
    """Keeps a copy of an engine's weights on the host, pinned where they are on a GPU.

    Under ZeRO stage 3 each rank keeps its part of them, below it all of them.

    Args:
        engine: of DeepSpeed, with the weights of the reference policy.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.kept = [
            torch.empty_like(piece, device="cpu", pin_memory=piece.is_cuda).copy_(piece) for piece in self._pieces()
        ]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the engine's weights are those of the reference policy; afterwards, bit by bit, those of before.

        The optimizer must not step within it. Every rank must enter it.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._settle)
            for piece, kept in zip(self._pieces(), self.kept, strict=True):
                _exchange(piece, kept)
                stack.callback(_exchange, piece, kept)
            stack.callback(self._settle)
            self._settle()
            yield

    def _pieces(self) -> list[Tensor]:
        """What this rank holds of each trained parameter, as flat views (at most `_PIECE`,) of it."""
        trained = [parameter for parameter in self.engine.module.parameters() if parameter.requires_grad]
        held = [getattr(parameter, "ds_tensor", parameter).data for parameter in trained]
        return [piece for tensor in held for piece in tensor.view(-1).split(_PIECE)]

    def _settle(self) -> None:
        """Lets go of what other ranks' parts have been gathered to, and waits for copies that a GPU still makes."""
        if hasattr(self.engine.optimizer, "empty_partition_cache"):  # ZeRO stage 3
            self.engine.optimizer.empty_partition_cache()
        if self.engine.device.type == "cuda":
            torch.cuda.synchronize(self.engine.device)


def _exchange(piece: Tensor, kept: Tensor) -> None:
    """Swaps what two tensors hold. On a GPU, copies are made in the order of the calls, and none is waited for."""
    before = piece.clone()
    piece.copy_(kept, non_blocking=True)
    kept.copy_(before, non_blocking=True)
