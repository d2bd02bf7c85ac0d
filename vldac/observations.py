"""Observations as requests bring them: pictures as text, an instruction, earlier texts; strict, and bounded in size."""

from __future__ import annotations

import base64
import binascii
import re

import numpy as np
from numpy.typing import NDArray

from envs.base import Exchange, Observation
from vldac.utils.pictures import PictureError, PictureTooLargeError, read_picture

#: What one observation may hold; its pictures, all together, may be much larger than their files.
MAX_FRAMES, MAX_CHARACTERS, MAX_BYTES, MAX_PIXELS, MAX_HISTORY = 16, 20_000, 20_000_000, 16_000_000, 32
_DATA_URL = re.compile(r"data:image/[\w.+-]+(;[\w=.-]+)*;base64,", re.IGNORECASE)


def read_observation(image: object, instruction: object, history: object = ()) -> Observation:
    """An observation.

    Args:
        image: a picture file as base64 text or as a data URL, or a list of them of one size, oldest first.
        instruction: the whole prompt in the words of the environment.
        history: of earlier steps, oldest first: pairs of what was asked and the answer, word for word; for a policy
            that was trained with `env.history`.

    Raises:
        ValueError: one of them is no such thing, or is too large.
    """
    observation: Observation = {"frames": _frames(image), "prompt": _text(instruction, "instruction")}
    if earlier := _history(history):
        observation["history"] = earlier
    return observation


def _text(text: object, name: str, *, may_be_empty: bool = False) -> str:
    if not isinstance(text, str) or not (may_be_empty or text.strip()):
        raise ValueError(f"{name} must be a text" + ("" if may_be_empty else " that is not empty"))
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{name} has {len(text)} characters; at most {MAX_CHARACTERS} are taken")
    return text


def _history(history: object) -> tuple[Exchange, ...]:
    pairs = list(history) if isinstance(history, list | tuple | np.ndarray) else [None]
    if len(pairs) > MAX_HISTORY:
        raise ValueError(f"history holds {len(pairs)} exchanges; at most {MAX_HISTORY} are taken")
    found = []
    for pair in pairs:
        if not isinstance(pair, list | tuple | np.ndarray) or len(pair) != 2:
            raise ValueError("history must be a list of pairs, [instruction, answer], oldest first")
        found.append(
            Exchange(
                _text(pair[0], "an instruction of history"), _text(pair[1], "an answer of history", may_be_empty=True)
            )
        )
    return tuple(found)


def _frames(image: object) -> NDArray[np.uint8]:
    """(K, H, W, 3) uint8 of one picture or several.

    Raises:
        ValueError: there is none, one cannot be read or is too large, or their sizes differ.
    """
    texts = list(image) if isinstance(image, list | tuple | np.ndarray) else [image]
    if not 1 <= len(texts) <= MAX_FRAMES:
        raise ValueError(f"image holds {len(texts)} pictures; 1 to {MAX_FRAMES} are taken")
    frames, left = list[NDArray[np.uint8]](), MAX_PIXELS
    for text in texts:
        frames.append(_frame(text, left))
        left -= frames[-1].shape[0] * frames[-1].shape[1]
    sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
    if len(sizes) > 1:
        raise ValueError(f"the pictures of one row must have one size, and these are {', '.join(sizes)}")
    return np.stack(frames)


def _frame(text: object, max_pixels: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a picture as text."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError("image must be a picture file as base64 text, or a list of them")
    if len(text) > 2 * MAX_BYTES:  # base64 takes 4 characters for 3 bytes
        raise ValueError(f"a picture is larger than {MAX_BYTES} bytes")
    encoded = "".join(_DATA_URL.sub("", text.strip(), count=1).split())
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):  # a letter beyond ASCII is a ValueError
        raise ValueError("image is not base64 text") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"a picture is larger than {MAX_BYTES} bytes")
    try:
        return read_picture(data, "image", max_pixels=max(max_pixels, 1))
    except PictureTooLargeError:
        raise ValueError(f"image has more than {MAX_PIXELS} pixels in all; scale what it holds down") from None
    except PictureError as error:
        raise ValueError(str(error)) from None
