"""Encoded pictures of late: a frame that is part of K observations is processed once, and not K times."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vldac.models.conversation import Image

if TYPE_CHECKING:  # which imports, by way of prompts, this module
    from vldac.models.adapter import ModelAdapter, Picture


class PictureCache:
    """Encodes pictures as `ModelAdapter.encode_pictures` does, those that it remembers excepted.

    A picture is known by its shape and a hash of its pixels. Families encode each picture by itself, so that what is
    remembered is what would be made again, bit for bit.

    Args:
        family: of the model.
        size: pictures to remember, those that were shown last.
    """

    def __init__(self, family: ModelAdapter, size: int) -> None:
        self.family, self.size = family, size
        self._known: dict[tuple[tuple[int, ...], bytes], Picture] = {}  # in the order in which they were last shown

    def __call__(self, images: Sequence[Image]) -> list[Picture]:
        """Encodes K >= 1 pictures, each (H, W, 3) uint8."""
        keys = [(image.shape, hashlib.blake2b(image.tobytes()).digest()) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self._known}
        made = self.family.encode_pictures(list(new.values())) if new else []
        # Tensors of their own: those of a family are parts of those of all pictures that it was given.
        for key, picture in zip(new, made, strict=True):
            self._known[key] = replace(picture, tensors={n: each.clone() for n, each in picture.tensors.items()})
        found = [self._known[key] for key in keys]
        for key in keys:
            self._known[key] = self._known.pop(key)
        while len(self._known) > self.size:
            del self._known[next(iter(self._known))]
        return found
