"""Generation by the model itself, in the learner's process: it samples from the very weights that are trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from vldac.engines.decoding import cut, decode
from vldac.engines.sampling import Sampler, uniforms
from vldac.models.adapter import NoDecoderError
from vldac.models.vlm import VLM, Prompt, Response

#: Largest difference between log-probabilities of a family's decoder and of the learner, in nats at temperature 1.
TOLERANCE = 1e-4

log = logging.getLogger(__name__)


class TransformersEngine:
    """Samples with the decoder of the model's family, where it has one, or else with transformers' `generate`.

    Both draw the same tokens from the same seeds, up to rounding. The first batch of a decoder is scored by the
    learner's forward pass; unless the log-probabilities agree, the decoder is not used.

    Args:
        vlm: the policy; its weights are used as they are at each call.
        own_decoder: whether to use the family's decoder.
    """

    exact = True

    def __init__(self, vlm: VLM, *, own_decoder: bool = True) -> None:
        self.vlm, self.own_decoder, self.proven = vlm, own_decoder, False

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float,
        seeds: Sequence[int] | None = None,
    ) -> list[Response]:
        """See `vldac.engines.base.Engine`."""
        vlm, uniform = self.vlm, None
        if temperature:
            if seeds is None:
                raise ValueError("sampling needs a seed for each prompt")
            uniform = uniforms(seeds, max_new_tokens).to(vlm.device)
        if self.own_decoder:
            responses = self._decode(prompts, max_new_tokens, temperature, uniform)
            if responses is not None:
                return responses
            self.own_decoder = False
        inputs, width = vlm.collate(prompts)
        sampler = Sampler(lambda logits: vlm.token_log_probs(logits, temperature or 1.0), uniform)
        output = vlm.backbone.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            logits_processor=[sampler],
            eos_token_id=vlm.end_id,
            pad_token_id=vlm.pad_id,
            synced_gpus=vlm.lockstep,
        )[:, width:]
        return cut(output, torch.stack(sampler.log_probs, dim=1), vlm.end_id)

    def _decode(
        self, prompts: Sequence[Prompt], max_new_tokens: int, temperature: float, uniform: Tensor | None
    ) -> list[Response] | None:
        """Samples with the family's decoder; None where there is none, or where it is not to be trusted."""
        vlm = self.vlm
        try:
            responses = decode(vlm, prompts, max_new_tokens=max_new_tokens, temperature=temperature, uniform=uniform)
        except NoDecoderError as reason:
            log.info("generating with transformers: %s", reason)
            return None
        if not self.proven:
            # Not `vlm(…)`: to the hooks that DeepSpeed puts on it, that would be a forward pass of the learner.
            scores = vlm.forward(prompts, [response.token_ids for response in responses], temperature or 1.0)
            found = torch.cat([response.log_probs for response in responses])
            gap = float((scores.log_probs[scores.mask].cpu() - found).abs().max()) * min(temperature or 1.0, 1.0)
            if not gap < TOLERANCE:
                log.warning("generating with transformers: log-probabilities of the decoder are off by %.2g", gap)
                return None
            self.proven = True
        return responses

    def update_weights(self, version: int) -> None:
        """Nothing to do: the learner changes the weights in place."""
