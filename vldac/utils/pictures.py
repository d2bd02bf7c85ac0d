"""Pictures from outside: files, columns of data sets, requests. Of the models' side, nothing else opens one.

The simulators import nothing of this project and have readers of their own, for what Chromium draws, MiniWorld's
textures and what an OpenEnv server sends.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from vldac.utils.errors import UserError

#: What is opened at all. Pillow's other readers are seldom tried against hostile files, and one starts Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
#: Of one picture, as its header states them.
MAX_PIXELS = 10**8
#: Of one file, in bytes: an uncompressed picture of `MAX_PIXELS`, and some more.
MAX_BYTES = 2**29
#: The longer side by the shorter: Qwen2-VL's image processor refuses more.
MAX_ASPECT_RATIO = 200
#: In pixels: transformers takes an array of height 1 or 3 for one that begins with its channels.
MIN_SIDE = 4

_CURE = f"give a whole picture as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


class PictureError(UserError):
    """Something that should be a picture cannot be read as one; the message is one line, `cause; cure`."""


class PictureTooLargeError(PictureError):
    """A picture states more pixels than may be read."""


def read_picture(source: bytes | Path, name: str = "picture", *, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """A picture as a model sees it: the first frame, without regard to an orientation in its EXIF data.

    Args:
        source: the content of a file, or the file.
        name: what messages call a content.
        max_pixels: that its header may state; None: `MAX_PIXELS`.

    Returns:
        (H, W, 3) uint8; see `to_rgb`.

    Raises:
        PictureError: it is not in one of `FORMATS`, it is damaged or cut short, or it is larger than the limits.
    """
    max_pixels = max_pixels or MAX_PIXELS
    if isinstance(source, Path):
        name = str(source)
        source = _content(source)
    if len(source) > MAX_BYTES:
        raise PictureError(f"{name} has more than {MAX_BYTES} bytes; scale the picture down")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # the limit here is `max_pixels`
        try:
            with PIL.Image.open(io.BytesIO(source), formats=FORMATS) as picture:
                return to_rgb(picture, name, max_pixels=max_pixels)
        except PictureError:
            raise
        except PIL.Image.DecompressionBombError as error:
            raise _too_large(name, max_pixels) from error
        except (
            Exception
        ) as error:  # Pillow raises whatever a damaged file leads to: SyntaxError, struct.error, EOFError
            raise _unreadable(name, error) from error


def read_base64(text: str, name: str = "picture", *, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """A picture whose file is written in base64 (RFC 4648); see `read_picture`.

    Raises:
        PictureError: it is no base64, or no picture.
    """
    if not isinstance(text, str) or len(text) > MAX_BYTES:
        raise PictureError(f"{name} is no text of at most {MAX_BYTES} characters; give a picture file in base64")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: letters beyond ASCII
        raise PictureError(f"{name} is no base64; give a picture file in base64") from error
    return read_picture(content, name, max_pixels=max_pixels)


def to_rgb(picture: PIL.Image.Image, name: str = "picture", *, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """An opened picture as (H, W, 3) uint8.

    Gray values of 16 bits are scaled to 8, where Pillow's own conversion shows all above 255 as white. Transparency is
    dropped, and a palette's colors are looked up: `convert("RGB")`, as lmms-eval and the published programs do.

    Raises:
        PictureError: it has too many pixels, or its data are damaged.
    """
    max_pixels = max_pixels or MAX_PIXELS
    if picture.width * picture.height > max_pixels:
        raise _too_large(name, max_pixels)
    try:
        if picture.mode == "F" or picture.mode.startswith("I"):  # I, I;16, I;16B, ...
            values = np.clip(np.asarray(picture), 0, 2**16 - 1).astype(np.uint16)
            return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
        return np.array(picture.convert("RGB"), dtype=np.uint8)
    except Exception as error:  # as in `read_picture`: pixels are decoded only now
        raise _unreadable(name, error) from error


def pad_narrow(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture that every image processor takes: its edge is repeated where it is too narrow for one.

    Neither side is below `MIN_SIDE`, and the longer is at most `MAX_ASPECT_RATIO` times the shorter.

    Args:
        picture: (H, W, 3) uint8, at least one pixel.

    Returns:
        The same array where it needs nothing, else a larger one whose top left part it is.
    """
    height, width = picture.shape[:2]
    least = max(MIN_SIDE, -(-max(height, width) // MAX_ASPECT_RATIO))
    missing = ((0, max(least - height, 0)), (0, max(least - width, 0)), (0, 0))
    return np.pad(picture, missing, mode="edge") if least > min(height, width) else picture


def _content(path: Path) -> bytes:
    if not path.is_file():  # neither a directory, nor a pipe that nobody writes to
        raise PictureError(f"there is no picture {path}; {_CURE}")
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(str(path), error) from error


def _too_large(name: str, max_pixels: int) -> PictureTooLargeError:
    return PictureTooLargeError(f"{name} has more than {max_pixels} pixels; scale the picture down")


def _unreadable(name: str, error: BaseException) -> PictureError:
    unknown = isinstance(error, PIL.UnidentifiedImageError)  # whose message names an object in memory
    reason = "of no format that is known" if unknown else " ".join(str(error).split())[:200] or type(error).__name__
    return PictureError(f"{name} cannot be read as a picture ({reason}); {_CURE}")
