"""The loop that writes responses token by token, around the decoder of a model family."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vldac.engines.sampling import choose
from vldac.models.adapter import NoDecoderError
from vldac.models.vlm import VLM, Prompt, Response


def decode(
    vlm: VLM, prompts: Sequence[Prompt], *, max_new_tokens: int, temperature: float, uniform: Tensor | None
) -> list[Response]:
    """Samples one response a prompt; see `vldac.engines.base.Engine.generate`.

    Args:
        vlm: the policy.
        prompts: B prompts.
        max_new_tokens: a response that has not ended by then is cut off.
        temperature: 0 takes the most likely token.
        uniform: (B, max_new_tokens) float64 of `vldac.engines.sampling.uniforms`; None at temperature 0.

    Raises:
        NoDecoderError: the family has no decoder for this model.
    """
    if vlm.lockstep:
        raise NoDecoderError("each rank holds a part of the weights")
    inputs, _ = vlm.collate(prompts)
    decoder = vlm.family.decoder(vlm.backbone, prompts, inputs, max_new_tokens)
    lm_head = vlm.family.lm_head(vlm.backbone)
    hidden = states = decoder.states
    token_ids = torch.full((len(prompts), max_new_tokens), vlm.end_id, device=hidden.device)
    log_probs = torch.zeros_like(token_ids, dtype=torch.float32)
    rows = torch.arange(len(prompts), device=hidden.device)
    running = torch.ones_like(rows, dtype=torch.bool)
    for number in range(max_new_tokens):
        distribution = vlm.token_log_probs(lm_head(hidden), temperature or 1.0)
        chosen = choose(distribution, None if uniform is None else uniform[rows, number])
        log_probs[rows, number] = distribution.gather(-1, chosen).squeeze(-1)
        chosen = chosen.squeeze(-1)
        token_ids[rows, number] = chosen  # beyond the end of a response, it is cut off below
        running &= chosen != vlm.end_id
        count = int(running.sum())
        if not count or number + 1 == max_new_tokens:
            break
        if 2 * count <= len(rows):  # what has ended leaves the batch, not one by one: each time, the cache is copied
            decoder.keep(running)
            rows, chosen, running = rows[running], chosen[running], running[running]
        hidden = decoder.step(chosen)
    return cut(token_ids, log_probs, vlm.end_id, states)


def cut(token_ids: Tensor, log_probs: Tensor, end_id: int, states: Tensor | None = None) -> list[Response]:
    """Responses without what follows their end of turn.

    Args:
        token_ids: (B, R) int64.
        log_probs: (B, R) float32.
        end_id: the end of turn.
        states: (B, H), last-layer hidden states at the last token of each prompt.
    """
    ended = (token_ids == end_id).int()
    lengths = (ended.cumsum(1) - ended == 0).sum(1).tolist()
    token_ids, log_probs = token_ids.cpu(), log_probs.cpu()
    known = [None] * len(lengths) if states is None else list(states.cpu())
    return [
        Response(ids[:length].clone(), scores[:length].clone(), None if state is None else state.clone())
        for ids, scores, length, state in zip(token_ids, log_probs, lengths, known, strict=True)
    ]
