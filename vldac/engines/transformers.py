"""Generation by the model itself, in the learner's process: it samples from the very weights that are trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch._dynamo.exc import ShortenTraceback

from vldac import health
from vldac.distributed import Runtime
from vldac.engines.decoding import DecoderKind, cached_decoder, cut, decode, family_decoder
from vldac.engines.sampling import Sampler, uniforms
from vldac.engines.stopping import Stopping
from vldac.models.adapter import NoDecoderError
from vldac.models.static_decoder import CompiledTrunk, StaticDecoder
from vldac.models.vlm import VLM, Prompt, Response

#: Largest difference between log-probabilities in float32 of a decoder and of the learner, in nats at temperature 1.
TOLERANCE = 1e-4

log = logging.getLogger(__name__)


class TransformersOptions(BaseModel):
    """Options of the engine, from `rollout.engine_options`.

    Attributes:
        compiled: whether a step is a compiled graph, on a GPU one that is replayed. Each batch size, and each length of
            the cache, is compiled when it is first met, which takes up to minutes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    compiled: bool = False


class TransformersEngine:
    """Samples with the first decoder that can be trusted, or else with transformers' `generate`.

    A decoder is that of the model's family, where it has one, or transformers' forward pass with a cache. All of them
    draw the same tokens from the same seeds, up to rounding. The first batch of a decoder is scored by the learner's
    forward pass; unless the log-probabilities agree, the decoder is not used.

    Args:
        vlm: the policy; its weights are used as they are at each call.
        options: see `TransformersOptions`.
        decoders: to try, in this order, after the one that `options` ask for.
    """

    Options = TransformersOptions
    exact = True

    def __init__(
        self,
        vlm: VLM,
        options: TransformersOptions | None = None,
        *,
        decoders: Sequence[DecoderKind] = (family_decoder, cached_decoder),
    ) -> None:
        self.vlm, self.proven = vlm, False
        first = [_Compiled()] if options and options.compiled else []
        self.decoders: list[DecoderKind] = [*first, *decoders]

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float,
        seeds: Sequence[int] | None = None,
        stop_at_answer: bool = False,
    ) -> list[Response]:
        """See `vldac.engines.base.Engine`."""
        vlm, uniform = self.vlm, None
        if temperature:
            if seeds is None:
                raise ValueError("sampling needs a seed for each prompt")
            uniform = uniforms(seeds, max_new_tokens).to(vlm.device)
        lockstep = vlm.lockstep and not vlm.gathered
        while self.decoders and not lockstep:  # ranks in lockstep end together, which `generate` can do
            responses = self._decode(prompts, max_new_tokens, temperature, uniform, stop_at_answer)
            if responses is not None:
                return responses
            del self.decoders[0]
            self.proven = False
        inputs, width = vlm.collate(prompts)
        sampler = Sampler(lambda logits: vlm.token_log_probs(logits, temperature or 1.0), uniform)
        stopping = Stopping(vlm, at_answer=stop_at_answer, start=width)
        output = vlm.backbone.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            logits_processor=[sampler],
            stopping_criteria=[stopping],
            eos_token_id=vlm.end_id,
            pad_token_id=vlm.pad_id,
            synced_gpus=lockstep,
        )[:, width:]
        assert stopping.lengths is not None
        return cut(output, torch.stack(sampler.log_probs, dim=1), stopping.lengths)

    def _decode(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        temperature: float,
        uniform: Tensor | None,
        stop_at_answer: bool,
    ) -> list[Response] | None:
        """Samples with the next decoder; None where there is none for this model, or it is not to be trusted."""
        vlm = self.vlm
        try:
            with vlm.adapter_merged() if self.decoders[0] is cached_decoder else nullcontext():
                responses = decode(
                    vlm,
                    prompts,
                    self.decoders[0],
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    uniform=uniform,
                    stop_at_answer=stop_at_answer,
                )
        except NoDecoderError as reason:
            log.info("generating with transformers: %s", reason)
            return None
        except ShortenTraceback as error:  # of a compiler that fails, is missing, or is too new for the GPU
            reason_given = " ".join(str(getattr(error, "inner_exception", error)).split())[:200]
            log.warning("generating without a compiled graph, because none can be made here: %s", reason_given)
            return None
        if not self.proven:
            # Not `vlm(…)`: to the hooks that DeepSpeed puts on it, that would be a forward pass of the learner.
            scores = vlm.forward(prompts, [response.token_ids for response in responses], temperature or 1.0)
            rows = [row[: len(r.token_ids)] for row, r in zip(scores.log_probs, responses, strict=True)]
            found = health.compare(rows, [response.log_probs for response in responses], Runtime(0, 1, vlm.device))
            if vlm.backbone.dtype == torch.float32:
                agree = found.largest * min(temperature or 1.0, 1.0) < TOLERANCE
            else:
                agree = health.agrees(found, str(vlm.backbone.dtype).removeprefix("torch."))
            if not agree:
                log.warning(
                    "generating with transformers: log-probabilities of the decoder are off by %.2g", found.largest
                )
                return None
            self.proven = True
        return responses

    def update_weights(self, version: int) -> None:
        """Nothing to do: the learner changes the weights in place."""

    def close(self) -> None:
        """Nothing to do: nothing has been started."""


class _Compiled:
    """Decoders whose steps are one compiled graph."""

    def __init__(self) -> None:
        self._trunk: CompiledTrunk | None = None

    def __call__(self, vlm: VLM, prompts: Sequence[Prompt], inputs: Mapping[str, Any], room: int) -> StaticDecoder:
        """See `DecoderKind`.

        Raises:
            NoDecoderError: the weights lie in shards.
        """
        if vlm.lockstep:
            raise NoDecoderError("weights that several ranks share are not compiled")
        if self._trunk is None:
            self._trunk = CompiledTrunk(vlm.family.trunk(vlm.backbone))
        return StaticDecoder(self._trunk, inputs, vlm.family.positions(vlm.backbone, prompts, inputs), room)
