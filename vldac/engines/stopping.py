"""Where responses end: at the end of a turn, or as soon as what follows cannot change how they are read."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import StoppingCriteria

from vldac import parsing
from vldac.models.vlm import VLM


class Stopping(StoppingCriteria):
    """Tells which responses have ended, token by token.

    An answer is settled with the token that closes its JSON object, where the text begins with it
    (`vldac.parsing.is_settled`). What the policy would have written after it reaches neither the environment nor the
    parser, so that leaving it out changes no action and no reward: the response that is learned from is what was
    written, its last token is the one that closes the object, and the probability of all of it is what was sampled.

    Args:
        vlm: the policy.
        at_answer: whether a settled answer ends a response, besides the end of the turn.
        start: tokens before the response in what is asked about.

    Attributes:
        lengths: (B,) int64, tokens of each response so far, while rows neither leave nor move.
    """

    def __init__(self, vlm: VLM, *, at_answer: bool, start: int = 0) -> None:
        self.vlm, self.start = vlm, start
        self.closing = vlm.closing_tokens.to(vlm.device) if at_answer else None
        self.lengths: Tensor | None = None

    def ended(self, token_ids: Tensor) -> Tensor:
        """Whether the last token of each row, (B, R) int64, ends its response: (B,) bool."""
        last = token_ids[:, -1]
        ended = last == self.vlm.end_id
        if self.closing is not None:
            for row in self.closing[last].nonzero().flatten().tolist():
                ended[row] = parsing.is_settled(self.vlm.decode(token_ids[row]))
        return ended

    def __call__(self, input_ids: Tensor, scores: Tensor, **_options: object) -> Tensor:
        """What transformers' `generate` asks after each token: which rows, (B, P + R) with the prompt, have ended."""
        written = input_ids[:, self.start :]
        if self.lengths is None:
            self.lengths = torch.zeros(len(written), dtype=torch.int64, device=written.device)
            self._running = torch.ones_like(self.lengths, dtype=torch.bool)
        self.lengths += self._running
        self._running &= ~self.ended(written)
        return ~self._running
