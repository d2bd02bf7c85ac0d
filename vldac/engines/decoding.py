"""The loop that writes responses token by token, around a decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vldac.engines.sampling import choose
from vldac.engines.stopping import Stopping
from vldac.models.adapter import Decoder
from vldac.models.cached_decoder import CachedDecoder
from vldac.models.vlm import VLM, Prompt, Response

#: Reads B prompts, given the model's inputs for them and the most tokens that a response may have.
DecoderKind = Callable[[VLM, Sequence[Prompt], Mapping[str, Any], int], Decoder]


def family_decoder(vlm: VLM, prompts: Sequence[Prompt], inputs: Mapping[str, Any], room: int) -> Decoder:
    """The decoder of the model's family.

    Raises:
        NoDecoderError: it has none for this model.
    """
    return vlm.family.decoder(vlm.backbone, prompts, inputs, room)


def cached_decoder(vlm: VLM, prompts: Sequence[Prompt], inputs: Mapping[str, Any], room: int) -> Decoder:
    """transformers' forward pass with its cache of keys and values."""
    positions = vlm.family.positions(vlm.backbone, prompts, inputs)
    return CachedDecoder(vlm.family.trunk(vlm.backbone), inputs, positions)


def decode(
    vlm: VLM,
    prompts: Sequence[Prompt],
    kind: DecoderKind,
    *,
    max_new_tokens: int,
    temperature: float,
    uniform: Tensor | None,
    stop_at_answer: bool = False,
) -> list[Response]:
    """Samples one response a prompt; see `vldac.engines.base.Engine.generate`.

    Args:
        vlm: the policy, whose weights are whole on this rank.
        prompts: B prompts.
        kind: of decoder.
        max_new_tokens: a response that has not ended by then is cut off.
        temperature: 0 takes the most likely token.
        uniform: (B, max_new_tokens) float64 of `vldac.engines.sampling.uniforms`; None at temperature 0.
        stop_at_answer: see `vldac.engines.stopping.Stopping`.

    Raises:
        NoDecoderError: there is no such decoder for this model.
    """
    inputs, _ = vlm.collate(prompts)
    decoder = kind(vlm, prompts, inputs, max_new_tokens)
    stopping = Stopping(vlm, at_answer=stop_at_answer)
    hidden = states = decoder.states
    token_ids = torch.full((len(prompts), max_new_tokens), vlm.end_id, device=hidden.device)
    log_probs = torch.zeros_like(token_ids, dtype=torch.float32)
    rows = torch.arange(len(prompts), device=hidden.device)
    lengths = torch.zeros_like(rows)
    running = torch.ones_like(rows, dtype=torch.bool)
    for number in range(max_new_tokens):
        distribution = vlm.token_log_probs(vlm.logits(hidden), temperature or 1.0)
        chosen = choose(distribution, None if uniform is None else uniform[rows, number])
        log_probs[rows, number] = distribution.gather(-1, chosen).squeeze(-1)
        chosen = chosen.squeeze(-1)
        token_ids[rows, number] = chosen  # beyond the end of a response, it is cut off below
        lengths[rows] += running
        running &= ~stopping.ended(token_ids[rows, : number + 1])
        count = int(running.sum())
        if not count or number + 1 == max_new_tokens:
            break
        if 2 * count <= len(rows):  # what has ended leaves the batch, not one by one: each time, the cache is copied
            decoder.keep(running)
            rows, chosen, running = rows[running], chosen[running], running[running]
        hidden = decoder.step(chosen)
    return cut(token_ids, log_probs, lengths, states)


def cut(token_ids: Tensor, log_probs: Tensor, lengths: Tensor, states: Tensor | None = None) -> list[Response]:
    """Responses without what follows their end.

    Args:
        token_ids: (B, R) int64.
        log_probs: (B, R) float32.
        lengths: (B,) int64, tokens of each response.
        states: (B, H), last-layer hidden states at the last token of each prompt.
    """
    token_ids, log_probs = token_ids.cpu(), log_probs.cpu()
    known = [None] * len(lengths) if states is None else list(states.cpu())
    return [
        Response(ids[:length].clone(), scores[:length].clone(), None if state is None else state.clone())
        for ids, scores, length, state in zip(token_ids, log_probs, lengths.tolist(), known, strict=True)
    ]
