"""The map as a picture of NetHack's 16x16 tiles, as BALROG's `render_rgb.py` draws it.

The tiles are read from the text files that the package nle installs (win/share of NetHack, NetHack General Public
License); nothing of them is kept here. They are the tiles of BALROG's `tiles.pkl`, to the pixel.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from nle import nethack
from nle.nethack.nethack import HACKDIR
from numpy.typing import NDArray

from vldac.models.conversation import Image

SIDE = 16
#: In the order in which tiles are numbered.
FILES = ("monsters.txt", "objects.txt", "other.txt")

_COLOR = re.compile(r"^(\S) = \((\d+), *(\d+), *(\d+)\)$", re.MULTILINE)
_TILE = re.compile(r"^# tile [^\n]*\n\{\n([^}]*)\}", re.MULTILINE)


def read_tiles(text: str) -> NDArray[np.uint8]:
    """The tiles of one file, (N, 16, 16, 3) uint8.

    Raises:
        ValueError: a tile is not 16 lines of 16 characters of the palette.
    """
    palette = {name: tuple(map(int, color)) for name, *color in _COLOR.findall(text)}
    tiles = [
        [[palette.get(name) for name in row.strip()] for row in tile.split("\n")[:-1]] for tile in _TILE.findall(text)
    ]
    if any(len(tile) != SIDE or any(len(row) != SIDE or None in row for row in tile) for tile in tiles):
        raise ValueError(f"a tile is not {SIDE} lines of {SIDE} colours")
    return np.array(tiles, dtype=np.uint8)


@lru_cache(maxsize=1)  # reading the files takes longer than a whole episode
def glyph_pictures() -> NDArray[np.uint8]:
    """The picture of each glyph, (MAX_GLYPH, 16, 16, 3) uint8, read-only."""
    folder = Path(HACKDIR) / "tiles"
    tiles = np.concatenate([read_tiles((folder / name).read_text(encoding="latin-1")) for name in FILES])
    pictures = tiles[np.asarray(nethack.glyph2tile)]
    pictures.flags.writeable = False
    return pictures


def draw(glyphs: NDArray[np.int16]) -> Image:
    """A map of glyphs, (21, 79) int16, as a picture, (336, 1264, 3) uint8."""
    rows, columns = glyphs.shape
    return glyph_pictures()[glyphs].transpose(0, 2, 1, 3, 4).reshape(rows * SIDE, columns * SIDE, 3)
