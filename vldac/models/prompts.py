"""From a conversation to what a vision-language model takes: token ids with placeholders expanded, and patches.

The processors of transformers need torchvision for their video half, so the tokenizer and the image processor are used
by themselves, and each image placeholder is repeated here, to the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vldac.models.conversation import Message
from vldac.models.registry import Family

#: Role and content of a message; None stands for a picture.
_Turn = tuple[str, tuple[str | None, ...]]


@dataclass(frozen=True)
class Prompt:
    """One encoded prompt, without padding.

    Attributes:
        input_ids: (P,) int64, image placeholders expanded.
        pixel_values: (patches, D) float32 of all K pictures.
        image_grid_thw: (K, 3) int64, the patch grid of each picture.
        features: what a vision tower that is not trained makes of the pictures, (visual tokens, H); None computes it in
            every forward pass.
        deepstack: the same at the inner layers that some families hand to the language model.
    """

    input_ids: Tensor
    pixel_values: Tensor
    image_grid_thw: Tensor
    features: Tensor | None = None
    deepstack: tuple[Tensor, ...] = ()


class Encoder:
    """Encodes conversations for one model.

    Args:
        tokenizer: of the model, with its chat template.
        image_processor: of the model.
        family: of the model.
    """

    def __init__(self, tokenizer: Any, image_processor: Any, family: Family) -> None:
        self.tokenizer, self.image_processor, self.family = tokenizer, image_processor, family
        self._marks = sorted({*tokenizer.all_special_tokens, *family.forbidden_tokens, family.end_of_turn})
        self._encode_text = lru_cache(maxsize=4096)(self._encode_text_uncached)

    def __call__(self, conversations: Sequence[Sequence[Message]]) -> list[Prompt]:
        """Encodes B conversations, each up to where the model answers.

        Args:
            conversations: of text and of pictures (H, W, 3) uint8.
        """
        images = [image for messages in conversations for message in messages for image in message.images]
        if images:
            processed = self.image_processor(images=images, return_tensors="pt")
            pixels, grids = processed["pixel_values"], processed["image_grid_thw"]
        else:
            pixels, grids = torch.zeros(0, 0), torch.zeros(0, 3, dtype=torch.int64)
        patches = grids.prod(-1).tolist()
        tokens = [count // self.image_processor.merge_size**2 for count in patches]
        encoded, image, patch = [], 0, 0
        for messages in conversations:
            turns = tuple(
                (message.role, tuple(self.literal(part) if isinstance(part, str) else None for part in message.content))
                for message in messages
            )
            k = sum(len(message.images) for message in messages)
            used = sum(patches[image : image + k])
            ids = self._encode_text(turns, tuple(tokens[image : image + k]))
            encoded.append(Prompt(ids, pixels[patch : patch + used].clone(), grids[image : image + k].clone()))
            image, patch = image + k, patch + used
        return encoded

    def literal(self, text: str) -> str:
        """`text` such that it can only be read as text: a mark of the chat format in it gets a space.

        What a world, a data set or an earlier answer of the model says must not end a turn or stand for a picture.
        """
        for mark in self._marks:
            if mark in text:
                text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text

    def _encode_text_uncached(self, turns: tuple[_Turn, ...], image_tokens: tuple[int, ...]) -> Tensor:
        messages = [
            {
                "role": role,
                "content": [{"type": "image"} if part is None else {"type": "text", "text": part} for part in content],
            }
            for role, content in turns
        ]
        template = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        pieces = template.split(self.family.image_token)
        if len(pieces) != len(image_tokens) + 1:
            raise ValueError(f"the chat template of this model drops or adds pictures: {len(pieces) - 1} placeholders")
        expanded = pieces[0] + "".join(
            self.family.image_token * count + piece for count, piece in zip(image_tokens, pieces[1:], strict=True)
        )
        ids = self.tokenizer(expanded, add_special_tokens=False, return_tensors="pt")["input_ids"]
        return ids[0]
