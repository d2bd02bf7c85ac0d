"""Text in drawn pictures: the font that Pillow bundles, at the size that fits."""

from __future__ import annotations

from bisect import bisect
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=256)
def fit_font(text: str, width: int, height: int) -> Font:
    """The bundled font at the largest whole size at which `text` fits into width x height pixels, at least 4."""

    def too_large(size: int) -> bool:
        left, top, right, bottom = _font(size).getbbox(text)
        return right - left > width or bottom - top > height

    sizes = range(5, 5 + width + height)
    return _font(4 + bisect(sizes, x=False, key=too_large))


@lru_cache(maxsize=256)  # Pillow unpacks the font anew each time
def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)
