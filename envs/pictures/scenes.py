"""What is in a picture, and how it is drawn. Places and sizes are fractions of the picture: a scene fits any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from envs.fonts import Font, fit_font

#: Any two of them, and each of them and the white ground, are at least 100 apart in RGB.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 150, 60),
    "blue": (30, 70, 230),
    "yellow": (240, 200, 0),
    "purple": (160, 40, 180),
    "black": (0, 0, 0),
}
#: Those that can be read on white.
INKS = tuple(name for name in COLORS if name != "yellow")
SHAPES = ("circle", "square", "triangle")
#: Of the smaller side of a shape's cell. With `WANDER` it stays inside the cell, so that shapes never overlap.
RADIUS, WANDER = 0.36, 0.1
_SUPERSAMPLED = 512  # pixels of the longer side up to which edges are smoothed, by drawing larger


class Shape(NamedTuple):
    """A shape in its cell of a grid.

    Attributes:
        name: one of `SHAPES`.
        color: one of `COLORS`.
        x: of its center, from the left.
        y: of its center, from the top.
        room: width and height of the cell.
    """

    name: str
    color: str
    x: float
    y: float
    room: tuple[float, float]


class Writing(NamedTuple):
    """A word or a number.

    Attributes:
        text: what is written.
        color: one of `INKS`.
        x: 0 leaves all free room on the right, 1 on the left.
        y: 0 leaves all free room below, 1 above.
        size: of the largest letters that fit.
    """

    text: str
    color: str
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Scene:
    """What one picture shows.

    Attributes:
        shapes: none overlaps another.
        panels: that a line parts the picture into, side by side.
        writing: the text in it, if any.
    """

    shapes: tuple[Shape, ...] = ()
    panels: int = 1
    writing: Writing | None = None


def place(rng: np.random.Generator, name: str, color: str, cell: tuple[int, int], grid: tuple[int, int]) -> Shape:
    """A shape somewhere about the middle of its cell.

    Args:
        rng: draws where exactly.
        name: one of `SHAPES`.
        color: one of `COLORS`.
        cell: column and row, from 0.
        grid: how many columns and rows there are.
    """
    x, y = ((at + 0.5 + WANDER * float(rng.uniform(-1, 1))) / count for at, count in zip(cell, grid, strict=True))
    return Shape(name, color, x, y, (1 / grid[0], 1 / grid[1]))


def draw(scene: Scene, width: int, height: int) -> NDArray[np.uint8]:
    """The picture on white, (height, width, 3) uint8."""
    factor = max(1, min(4, _SUPERSAMPLED // max(width, height)))
    w, h = width * factor, height * factor
    image = Image.new("RGB", (w, h), "white")
    pen = ImageDraw.Draw(image)
    for shape in scene.shapes:
        _draw_shape(pen, shape, w, h)
    for number in range(1, scene.panels):
        x = round(number * width / scene.panels) * factor
        pen.rectangle((x, 0, x + factor * max(1, width // 128) - 1, h), fill=(128, 128, 128))
    if scene.writing is not None:
        _write(pen, scene.writing, w, h)
    return np.array(image.reduce(factor) if factor > 1 else image)


def _draw_shape(pen: ImageDraw.ImageDraw, shape: Shape, w: int, h: int) -> None:
    x, y, color = shape.x * w, shape.y * h, COLORS[shape.color]
    r = RADIUS * min(shape.room[0] * w, shape.room[1] * h)
    if shape.name == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
    elif shape.name == "square":
        side = 0.86 * r  # about the area of the circle: a shape is not told by its size
        pen.rectangle((x - side, y - side, x + side, y + side), fill=color)
    else:
        pen.polygon([(x, y - r), (x + r, y + 0.9 * r), (x - r, y + 0.9 * r)], fill=color)


def letters(writing: Writing, width: int, height: int) -> list[tuple[str, float, float]]:
    """Each letter of a writing with the place of its center, in pixels of a picture of this size."""
    font, x, y = _lay_out(writing, width, height)
    _, top, _, bottom = font.getbbox(writing.text)
    ends = [font.getlength(writing.text[:count]) for count in range(len(writing.text) + 1)]
    return [
        (letter, x + (start + end) / 2, y + (top + bottom) / 2)
        for letter, start, end in zip(writing.text, ends, ends[1:], strict=False)
    ]


def _write(pen: ImageDraw.ImageDraw, writing: Writing, w: int, h: int) -> None:
    font, x, y = _lay_out(writing, w, h)
    pen.text((round(x), round(y)), writing.text, COLORS[writing.color], font)


def _lay_out(writing: Writing, w: int, h: int) -> tuple[Font, float, float]:
    """Font and upper left corner of a writing."""
    font = fit_font(writing.text, round(0.92 * w * writing.size), round(0.5 * h * writing.size))
    left, top, right, bottom = font.getbbox(writing.text)
    x = 0.04 * w + writing.x * (0.92 * w - (right - left)) - left
    y = 0.04 * h + writing.y * (0.92 * h - (bottom - top)) - top
    return font, x, y
