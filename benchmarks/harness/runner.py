"""A vision-language model that answers the requests of a benchmark, many at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.harness.options import Options
from benchmarks.harness.task import Request
from vldac.engines.transformers import TransformersEngine
from vldac.evaluation.model import OutOfDeviceMemoryError
from vldac.models.conversation import Message
from vldac.models.prompts import Prompt
from vldac.models.vlm import VLM
from vldac.utils.pictures import pad_narrow

_DEFAULTS = Options()
_ROOM, _MORE_ROOM = 512, 4  # tokens that an answer may have at first, and how many times more when it is cut off
_STRETCH, _SHORT = 1.5, 256  # padding makes no prompt longer than 1.5 times itself, or than 1.5 times 256 tokens


class VLMRunner:
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
        max_pixels: int = _DEFAULTS.max_pixels,
        min_pixels: int = _DEFAULTS.min_pixels,
        tokens_at_once: int = _DEFAULTS.tokens_at_once,
    ) -> None:
        if not 0 < min_pixels <= max_pixels:
            raise ValueError(f"min_pixels {min_pixels} must be above 0 and at most max_pixels {max_pixels}")
        vlm.family.limit_pixels(min_pixels, max_pixels)
        self.vlm, self.tokens_at_once, self.engine = vlm, tokens_at_once, TransformersEngine(vlm)

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One text for each request, in order.

        Raises:
            OutOfDeviceMemoryError: a batch is too large for the device.
        """
        texts: dict[int, str] = {}
        prompts: dict[int, Prompt] = {}
        encoded = 0
        for i, request in enumerate(requests):
            # The pictures of 32 requests of 32 frames are gigabytes: no more are held than one batch can take.
            (prompts[i],) = self.vlm.encoder([[_padded(message) for message in request.messages]])
            encoded += len(prompts[i].input_ids)
            if encoded >= self.tokens_at_once or i + 1 == len(requests):
                texts |= self._texts(requests, prompts)
                prompts, encoded = {}, 0
        return [texts[i] for i in range(len(requests))]

    def _texts(self, requests: Sequence[Request], prompts: Mapping[int, Prompt]) -> dict[int, str]:
        """Texts by index of request.

        Room for the longest allowed answer would leave a batch of few requests, though most answers are short. So all
        get little room at first, and those that are cut off are asked again, by the same seed, with more.
        """
        texts: dict[int, str] = {}
        room = _ROOM
        while waiting := [i for i in prompts if i not in texts]:
            for batch in self._batches(requests, prompts, waiting, room):
                for i, token_ids in zip(batch, self._generate(requests, prompts, batch, room), strict=True):
                    if token_ids[-1] == self.vlm.end_id or room >= requests[i].max_new_tokens:
                        texts[i] = self.vlm.decode(token_ids)
            room *= _MORE_ROOM
        return texts

    def _generate(
        self, requests: Sequence[Request], prompts: Mapping[int, Prompt], batch: Sequence[int], room: int
    ) -> list[Tensor]:
        first = requests[batch[0]]
        try:
            responses = self.engine.generate(
                [prompts[i] for i in batch],
                max_new_tokens=min(room, first.max_new_tokens),
                temperature=first.temperature,
                seeds=[requests[i].seed for i in batch],
            )
        except torch.OutOfMemoryError as error:
            raise OutOfDeviceMemoryError(
                f"a batch does not fit into the memory of the device; run the same command with a lower "
                f"--tokens-at-once (now {self.tokens_at_once}), or a lower --max-pixels where one question is too large"
            ) from error
        return [response.token_ids for response in responses]

    def _batches(
        self, requests: Sequence[Request], prompts: Mapping[int, Prompt], waiting: Iterable[int], room: int
    ) -> Iterator[list[int]]:
        """Indices of requests that are generated together: of one temperature and limit, and about as long."""

        def key(i: int) -> tuple[float, int, int]:
            return requests[i].temperature, min(room, requests[i].max_new_tokens), len(prompts[i].input_ids)

        batch: list[int] = []
        for i in sorted(waiting, key=key):
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


def _padded(message: Message) -> Message:
    """A message whose pictures every image processor takes; see `pad_narrow`."""
    content = tuple(part if isinstance(part, str) else pad_narrow(part) for part in message.content)
    return Message(message.role, content)
