"""A vision-language model sitting an exam: requests in, answers out, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from benchmarks.exam import Request
from vldac.encoding import Prompt
from vldac.vlm import VLM

#: Picture sizes of the paper's evaluations, in pixels.
MAX_PIXELS, MIN_PIXELS = 200_704, 3_136
_TOKENS_AT_ONCE = 32_768  # of a batch with its padding and its answers; longer batches are cut up
_STRETCH, _SHORT = 1.5, 256  # padding makes no prompt longer than 1.5 times itself, or than 1.5 times 256 tokens


class VLMExaminee:
    """Answers with a model.

    An answer is decided by its request alone, up to rounding: by the request's own seed, whoever else is answered in
    the same batch.

    Args:
        vlm: the model; its image processor is set to the limits below.
        max_pixels: larger pictures are scaled down to it.
        min_pixels: smaller pictures are scaled up to it.
        tokens_at_once: of one batch, padding and answers included.
    """

    def __init__(
        self,
        vlm: VLM,
        *,
        max_pixels: int = MAX_PIXELS,
        min_pixels: int = MIN_PIXELS,
        tokens_at_once: int = _TOKENS_AT_ONCE,
    ) -> None:
        if not 0 < min_pixels <= max_pixels:
            raise ValueError(f"min_pixels {min_pixels} must be above 0 and at most max_pixels {max_pixels}")
        vlm.image_processor.size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
        self.vlm, self.tokens_at_once = vlm, tokens_at_once

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One text for each request, in order."""
        prompts = self.vlm.encoder([request.messages for request in requests])
        texts = [""] * len(requests)
        for batch in self._batches(requests, prompts):
            first = requests[batch[0]]
            responses = self.vlm.generate(
                [prompts[i] for i in batch],
                max_new_tokens=first.max_new_tokens,
                temperature=first.temperature,
                generator=[torch.Generator(self.vlm.device).manual_seed(requests[i].seed) for i in batch],
            )
            for i, response in zip(batch, responses, strict=True):
                texts[i] = self.vlm.decode(response.token_ids)
        return texts

    def _batches(self, requests: Sequence[Request], prompts: Sequence[Prompt]) -> Iterator[list[int]]:
        """Indices of requests that are generated together: of one temperature and limit, and about as long."""

        def key(i: int) -> tuple[float, int, int]:
            return requests[i].temperature, requests[i].max_new_tokens, len(prompts[i].input_ids)

        batch: list[int] = []
        for i in sorted(range(len(requests)), key=key):
            temperature, limit, length = key(i)
            if batch:
                alike = key(batch[0])[:2] == (temperature, limit)
                # Padding costs as much as reading: a short prompt is not made several times longer for a long one.
                padded = length > _STRETCH * max(_SHORT, key(batch[0])[2])
                if padded or not alike or (len(batch) + 1) * (length + limit) > self.tokens_at_once:
                    yield batch
                    batch = []
            batch.append(i)
        if batch:
            yield batch
