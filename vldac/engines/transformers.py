"""Generation by the model itself, in the learner's process: it samples from the very weights that are trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vldac.engines.sampling import Sampler, uniforms
from vldac.models.vlm import VLM, Prompt, Response


class TransformersEngine:
    """Samples with transformers' `generate`.

    Args:
        vlm: the policy; its weights are used as they are at each call.
    """

    def __init__(self, vlm: VLM) -> None:
        self.vlm = vlm

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
        vlm = self.vlm
        inputs, width = vlm.collate(prompts)
        uniform = None
        if temperature:
            if seeds is None:
                raise ValueError("sampling needs a seed for each prompt")
            uniform = uniforms(seeds, max_new_tokens).to(vlm.device)
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
        )[:, width:].cpu()
        log_probs = torch.stack(sampler.log_probs, dim=1).cpu()
        ended = (output == vlm.end_id).int()
        lengths = (ended.cumsum(1) - ended == 0).sum(1).tolist()
        return [Response(output[i, :n].clone(), log_probs[i, :n].clone()) for i, n in enumerate(lengths)]

    def update_weights(self, version: int) -> None:
        """Nothing to do: the learner changes the weights in place."""
