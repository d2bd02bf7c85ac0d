"""Pictures of what an episode has revealed, drawn here: AI2-THOR's own pictures need its Unity build.

Receptacles stand in a grid, in the order of their names. A gray box is one that the agent has not been to, a box with
a bar across it is closed, a white one shows what lies in it: each type of thing has a shape and a color of its own.
Where there is room the names are written. The red frame is where the agent stands, the strip below is its hand.
"""

from __future__ import annotations

import colorsys
import math
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from envs.alfworld.knowledge import Knowledge, Receptacle, type_of

#: Smallest font that can be read, in pixels.
_MIN_FONT = 7
_STATE_COLORS = {"hot": "#e4572e", "cool": "#2e86de", "clean": "#1dd1a1"}
_AGENT, _LIT, _UNKNOWN = "#d00000", "#ffd60a", "#c8c8c8"
#: left, top, right, bottom in pixels
Box = tuple[float, float, float, float]


def draw(known: Knowledge, width: int, height: int) -> NDArray[np.uint8]:
    """What is known of the room, (height, width, 3) uint8."""
    image = Image.new("RGB", (width, height), "#f4f1ea")
    canvas = ImageDraw.Draw(image)
    strip = min(max(height * 0.12, 9), height / 4)
    columns, rows = _grid(len(known.receptacles), width, height - strip)
    cell_width, cell_height = width / columns, (height - strip) / rows
    for index, receptacle in enumerate(known.receptacles.values()):
        left, top = index % columns * cell_width, index // columns * cell_height
        _draw_receptacle(canvas, receptacle, known, (left, top, left + cell_width, top + cell_height))
    _draw_hand(canvas, known, (0, height - strip, width, height))
    return np.asarray(image, dtype=np.uint8).copy()


def _grid(count: int, width: float, height: float) -> tuple[int, int]:
    """Columns and rows for so many cells, as near to square cells as can be."""
    columns = min(
        range(1, count + 1), key=lambda c: abs(math.log(width / c * math.ceil(count / c) / height)), default=1
    )
    return columns, math.ceil(max(count, 1) / columns)


def _draw_receptacle(canvas: ImageDraw.ImageDraw, receptacle: Receptacle, known: Knowledge, cell: Box) -> None:
    size = min(cell[2] - cell[0], cell[3] - cell[1])
    gap = min(max(size * 0.04, 1), size / 4)
    left, top, right, bottom = cell[0] + gap, cell[1] + gap, cell[2] - gap, cell[3] - gap
    color = _color(type_of(receptacle.name), 0.85)
    canvas.rectangle((left, top, right, bottom), fill=color)
    if known.at == receptacle.name:
        canvas.rectangle((left, top, right, bottom), outline=_AGENT, width=max(round(gap * 1.5), 1))
    title = _font(min((bottom - top) * 0.28, 1.6 * (right - left) / len(receptacle.name)))
    inset = gap * 2
    inner_top = top + inset
    if title is not None:
        canvas.text(((left + right) / 2, top + inset), receptacle.name, "black", title, anchor="mt")
        inner_top += title.size * 1.2
    inner = (left + inset, min(inner_top, bottom - inset), right - inset, bottom - inset)
    if inner[2] - inner[0] < 1 or inner[3] - inner[1] < 1:
        return
    if receptacle.closed:
        canvas.rectangle(inner, fill=_color(type_of(receptacle.name), 0.5))
        middle = (inner[1] + inner[3]) / 2
        canvas.line((inner[0], middle, inner[2], middle), fill="white", width=max(round(gap), 1))
    elif receptacle.contents is None:
        canvas.rectangle(inner, fill=_UNKNOWN)
    else:
        canvas.rectangle(inner, fill="white")
        if receptacle.openable:  # an open door
            canvas.rectangle((inner[0], inner[1], inner[0] + gap, inner[3]), fill=_color(type_of(receptacle.name), 0.5))
        _draw_things(canvas, receptacle.contents, known, inner)


def _draw_things(canvas: ImageDraw.ImageDraw, things: tuple[str, ...], known: Knowledge, box: Box) -> None:
    """Things in a grid, with their names below where they can be read."""
    if not things:
        return
    left, top, right, bottom = box
    columns, rows = _grid(len(things), right - left, bottom - top)
    width, height = (right - left) / columns, (bottom - top) / rows
    font = _font(min(height * 0.3, 1.6 * width / max(len(thing) for thing in things)))
    label = font.size * 1.1 if font is not None else 0.0
    for index, thing in enumerate(things):
        x, y = left + (index % columns + 0.5) * width, top + (index // columns) * height
        _draw_thing(canvas, thing, known, (x, y + (height - label) / 2), min(width, height - label) * 0.42)
        if font is not None:
            canvas.text((x, y + height), thing, "black", font, anchor="mb")


def _draw_thing(
    canvas: ImageDraw.ImageDraw, thing: str, known: Knowledge, center: tuple[float, float], radius: float
) -> None:
    """A thing about a point: shape and color tell its type, a ring what was done to it."""
    (x, y), r = center, max(radius, 1.0)
    rings = [_STATE_COLORS[state] for state in known.states.get(thing, ())]
    if thing in known.lit:
        rings.append(_LIT)
    for number, ring in enumerate(rings):
        size = r * (1 - 0.18 * number)
        canvas.ellipse((x - size, y - size, x + size, y + size), fill=ring)
    size = max(r * (0.95 if not rings else 0.8 - 0.18 * len(rings)), 1.0)
    kind = type_of(thing)
    sides = (0, 3, 4, 5, 6, -4)[zlib.crc32(b"shape" + kind.encode()) % 6]
    color = _color(kind, 0.75, saturation=0.9)
    if sides == 0:
        canvas.ellipse((x - size, y - size, x + size, y + size), fill=color)
    else:
        turn = math.pi / 4 if sides == -4 else -math.pi / 2
        angles = [turn + 2 * math.pi * corner / abs(sides) for corner in range(abs(sides))]
        canvas.polygon([(x + size * math.cos(a), y + size * math.sin(a)) for a in angles], fill=color)


def _draw_hand(canvas: ImageDraw.ImageDraw, known: Knowledge, box: Box) -> None:
    """What the agent holds, and the word that tells that all of this is drawn."""
    left, top, right, bottom = box
    height = bottom - top
    canvas.rectangle(box, fill="#303030")
    corner = _sized(max(round(height * 0.5), 6))
    canvas.text((right - 2, bottom - 1), "drawn", "#d8d8d8", corner, anchor="rb")
    if known.holding is None:
        return
    canvas.ellipse((left + 1, top + 1, left + height - 1, bottom - 1), fill="white")
    _draw_thing(canvas, known.holding, known, (left + height / 2, top + height / 2), height * 0.4)
    name = " ".join([*known.states.get(known.holding, ()), known.holding])
    font = _font(min(height * 0.55, 1.6 * (right - left - height - corner.getlength("drawn") - 6) / len(name)))
    if font is not None:
        canvas.text((left + height + 2, top + height / 2), name, "white", font, anchor="lm")


@lru_cache(maxsize=64)
def _sized(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _font(size: float) -> ImageFont.FreeTypeFont | None:
    """The bundled font, or None where it would be too small to read."""
    return _sized(min(int(size), 28)) if size >= _MIN_FONT else None


@lru_cache(maxsize=1024)
def _color(kind: str, value: float, saturation: float = 0.45) -> tuple[int, int, int]:
    """The color of a type: one of 24 hues, the same everywhere."""
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(kind.encode()) % 24 / 24, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
