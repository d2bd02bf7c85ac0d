"""From a conversation to what a vision-language model takes: token ids with placeholders expanded, and pictures.

The processors of transformers need torchvision for their video half, so the tokenizer and the image processor are used
by themselves, and each image placeholder is expanded here, to the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vldac.models.conversation import Message
from vldac.models.picture_cache import PictureCache
from vldac.parsing import THINKING
from vldac.utils.errors import UserError

if TYPE_CHECKING:  # which imports this module
    from vldac.models.adapter import ModelAdapter, Picture

#: Role and content of a message; None stands for a picture.
_Turn = tuple[str, tuple[str | None, ...]]
_SWITCH = "enable_thinking"  # as the templates of Qwen and others call it


@dataclass(frozen=True)
class Prompt:
    """One encoded prompt, without padding.

    Which tensors `pictures` and `features` hold is the business of the model's `ModelAdapter`.

    Attributes:
        input_ids: (P,) int64, image placeholders expanded.
        pictures: what the vision tower reads of all pictures, by name; empty where none is shown.
        features: what a vision tower that is not trained makes of the pictures, by name; None computes it in every
            forward pass.
    """

    input_ids: Tensor
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] | None = None


class Encoder:
    """Encodes conversations for one model.

    Args:
        tokenizer: of the model, with its chat template.
        family: of the model.
        thinking: whether the chat template lets the model think before it answers; None leaves it to the template.

    Attributes:
        opening: how each response has begun already, because the chat template writes it: `<think>`, or nothing.

    Raises:
        UserError: the chat template has no switch for thinking.
    """

    def __init__(self, tokenizer: Any, family: ModelAdapter, thinking: bool | None = None) -> None:
        self.tokenizer, self.family = tokenizer, family
        if thinking is not None and _SWITCH not in str(tokenizer.chat_template):
            raise UserError("the chat template of this model has no switch for thinking; leave model.thinking out")
        self._options = {} if thinking is None else {_SWITCH: thinking}
        begun = self._text([{"role": "user", "content": [{"type": "text", "text": ""}]}])
        self.opening = THINKING[0] + begun.rpartition(THINKING[0])[2] if begun.rstrip().endswith(THINKING[0]) else ""
        self._marks = sorted({*tokenizer.all_special_tokens, *family.forbidden_tokens, family.end_of_turn})
        self._encode_text = lru_cache(maxsize=4096)(self._encode_text_uncached)

    def __call__(
        self, conversations: Sequence[Sequence[Message]], pictures: PictureCache | None = None
    ) -> list[Prompt]:
        """Encodes B conversations, each up to where the model answers.

        Args:
            conversations: of text and of pictures (H, W, 3) uint8.
            pictures: those that have been encoded already.

        Raises:
            ValueError: the chat template of the model drops or adds pictures.
        """
        images = [image for messages in conversations for message in messages for image in message.images]
        encode = self.family.encode_pictures if pictures is None else pictures
        encoded_images = iter(encode(images) if images else [])
        encoded = []
        for messages in conversations:
            turns = tuple(
                (message.role, tuple(self.literal(part) if isinstance(part, str) else None for part in message.content))
                for message in messages
            )
            shown = [next(encoded_images) for message in messages for _ in message.images]
            ids = self._encode_text(turns, tuple(picture.placeholder for picture in shown))
            encoded.append(Prompt(ids, _joined(shown)))
        return encoded

    def literal(self, text: str) -> str:
        """`text` such that it can only be read as text: a mark of the chat format in it gets a space.

        What a world, a data set or an earlier answer of the model says must not end a turn or stand for a picture.
        """
        for mark in self._marks:
            if mark in text:
                text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text

    def _encode_text_uncached(self, turns: tuple[_Turn, ...], placeholders: tuple[str, ...]) -> Tensor:
        messages = [
            {
                "role": role,
                "content": [{"type": "image"} if part is None else {"type": "text", "text": part} for part in content],
            }
            for role, content in turns
        ]
        pieces = self._text(messages).split(self.family.picture_mark or self.family.image_token)
        if len(pieces) != len(placeholders) + 1:
            raise ValueError(f"the chat template of this model drops or adds pictures: {len(pieces) - 1} placeholders")
        expanded = pieces[0] + "".join(
            placeholder + piece for placeholder, piece in zip(placeholders, pieces[1:], strict=True)
        )
        ids = self.tokenizer(expanded, add_special_tokens=False, return_tensors="pt")["input_ids"]
        return ids[0]

    def _text(self, messages: list[dict[str, Any]]) -> str:
        """A conversation as the chat template writes it, up to where the model answers."""
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **self._options)
        )


def _joined(pictures: Sequence[Picture]) -> dict[str, Tensor]:
    """The tensors of one prompt's pictures, copied: a prompt must not keep those of its whole batch in memory."""
    names = pictures[0].tensors if pictures else ()
    return {name: torch.cat([picture.tensors[name] for picture in pictures]) for name in names}
