"""A conversation as a vision-language model reads it: messages of text and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: (H, W, 3) uint8.
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: whose turn it is.
        content: texts and pictures, in the order in which they are read.
    """

    role: Literal["system", "user", "assistant"]
    content: tuple[str | Image, ...]

    @property
    def images(self) -> list[Image]:
        """The pictures alone."""
        return [part for part in self.content if not isinstance(part, str)]

    @property
    def text(self) -> str:
        """The texts alone."""
        return "".join(part for part in self.content if isinstance(part, str))


def plain(messages: Sequence[Message]) -> str:
    """A conversation as one text, for people: roles as headings, `<image>` for each picture."""
    return "\n".join(
        f"[{message.role}] " + "".join(part if isinstance(part, str) else "<image>" for part in message.content)
        for message in messages
    )
