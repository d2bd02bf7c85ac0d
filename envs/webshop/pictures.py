"""Drawn pictures of products: a simple shape for each kind, in the product's color."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageColor, ImageDraw

#: How many times larger a picture is drawn than it is shown, for smooth edges.
_OVERSAMPLING = 4
_BACKGROUND = "#f4f5f7"
_GRAY = "#8a9099"
#: Colors of the shop that CSS does not name, or names otherwise than one would draw them.
_COLORS = {
    **{"amber": "#d9902f", "black": "#2b2d31", "blue": "#2f6fdb", "brown": "#7a5134", "burgundy": "#7b1e3a"},
    **{"charcoal": "#43474d", "clay": "#b5653c", "cream": "#efe3c2", "gold": "#d4a62a", "gray": "#8d939b"},
    **{"green": "#2f9e57", "mint": "#8fd6b5", "mustard": "#d3a423", "natural": "#d9b98a", "navy": "#24386b"},
    **{"olive": "#76803a", "orange": "#ee7d28", "pink": "#ee86ab", "purple": "#7d4bb8", "red": "#d5343a"},
    **{"rose": "#d98795", "sand": "#d8c39a", "silver": "#bcc2c9", "teal": "#1f8a8c", "walnut": "#6a4630"},
    **{"white": "#fbfbf9", "yellow": "#f2c832"},
}


def rgb(color: str) -> tuple[int, int, int]:
    """The red, green and blue, 0 to 255, of the last word of a color name that is known; gray where none is."""
    for word in reversed(color.split()):
        try:
            return ImageColor.getrgb(_COLORS.get(word, word))[:3]
        except ValueError:
            continue
    return ImageColor.getrgb(_GRAY)[:3]


@lru_cache(maxsize=1024)
def picture(kind: str, color: str, size: int) -> Image.Image:
    """A square picture.

    Args:
        kind: one of `KINDS`; anything else is drawn as a parcel.
        color: a color name, see `rgb`.
        size: of its side, in pixels.

    Returns:
        An RGB image, which is shared and must not be changed.
    """
    image = Image.new("RGB", (size * _OVERSAMPLING,) * 2, _BACKGROUND)
    KINDS.get(kind, _parcel)(_Pen(image, rgb(color)))
    return image.resize((size, size), Image.Resampling.BOX)


class _Pen:
    """Draws in coordinates of 0 to 100, y downwards, in shades of one color."""

    def __init__(self, image: Image.Image, color: tuple[int, int, int]) -> None:
        self._draw, self._scale = ImageDraw.Draw(image), image.width / 100
        self.fill = color
        self.dark = (color[0] * 6 // 10, color[1] * 6 // 10, color[2] * 6 // 10)
        self.light = tuple(part + (255 - part) * 45 // 100 for part in color)
        self._edge = max(round(1.6 * self._scale), 1)

    def _points(self, *numbers: float) -> list[float]:
        return [number * self._scale for number in numbers]

    def shape(self, *numbers: float, fill: object = None) -> None:
        """A polygon through x, y, x, y, ..."""
        self._draw.polygon(
            self._points(*numbers), fill=self._color(fill), outline=self._color(self.dark), width=self._edge
        )

    def box(self, *numbers: float, fill: object = None, radius: float = 3) -> None:
        """A rectangle with round corners from left, top to right, bottom."""
        self._draw.rounded_rectangle(
            self._points(*numbers),
            radius * self._scale,
            fill=self._color(fill),
            outline=self._color(self.dark),
            width=self._edge,
        )

    def oval(self, *numbers: float, fill: object = None) -> None:
        """An ellipse within left, top, right, bottom."""
        self._draw.ellipse(
            self._points(*numbers), fill=self._color(fill), outline=self._color(self.dark), width=self._edge
        )

    def line(self, *numbers: float, width: float = 3, fill: object = None) -> None:
        """A line through x, y, x, y, ..."""
        self._draw.line(
            self._points(*numbers),
            fill=self._color(fill or self.dark),
            width=max(round(width * self._scale), 1),
            joint="curve",
        )

    def arc(self, *numbers: float, start: float, end: float, width: float = 5, fill: object = None) -> None:
        """A part of an ellipse within left, top, right, bottom, in degrees clockwise from the right."""
        self._draw.arc(
            self._points(*numbers),
            start,
            end,
            fill=self._color(fill or self.dark),
            width=max(round(width * self._scale), 1),
        )

    def _color(self, fill: object) -> tuple[int, int, int]:
        if isinstance(fill, str):
            return ImageColor.getrgb(fill)[:3]
        return fill or self.fill  # type: ignore[return-value]  # one of the pen's own shades


def _parcel(p: _Pen) -> None:
    p.shape(12, 34, 50, 20, 88, 34, 50, 48, fill="#e2bd8c")
    p.shape(12, 34, 50, 48, 50, 88, 12, 72, fill="#cfa36b")
    p.shape(88, 34, 50, 48, 50, 88, 88, 72, fill="#bd8f57")
    p.line(31, 27, 69, 41, 69, 54, width=5, fill="#f3e4c4")


def _mug(p: _Pen) -> None:
    p.arc(58, 34, 90, 70, start=-90, end=90, width=8)
    p.box(18, 24, 70, 84, radius=8)
    p.oval(18, 16, 70, 32, fill=p.light)


def _bottle(p: _Pen) -> None:
    p.box(40, 6, 60, 22, fill=p.dark)
    p.shape(42, 22, 58, 22, 70, 36, 30, 36, fill=p.light)
    p.box(30, 34, 70, 94, radius=6)
    p.box(30, 52, 70, 74, fill=p.light, radius=0)


def _pan(p: _Pen) -> None:
    p.box(60, 46, 97, 56, fill=p.dark, radius=4)
    p.oval(5, 22, 71, 84)
    p.oval(14, 30, 62, 76, fill=p.light)


def _kettle(p: _Pen) -> None:
    p.arc(28, 8, 72, 62, start=180, end=360, width=6)
    p.shape(66, 58, 92, 34, 96, 40, 70, 74)
    p.oval(16, 36, 76, 90)
    p.oval(38, 30, 54, 42, fill=p.dark)


def _shirt(p: _Pen) -> None:
    p.shape(34, 14, 66, 14, 94, 34, 84, 50, 72, 42, 72, 90, 28, 90, 28, 42, 16, 50, 6, 34)
    p.arc(38, 4, 62, 26, start=0, end=180, width=5)


def _shoe(p: _Pen) -> None:
    p.shape(8, 30, 36, 30, 52, 48, 82, 56, 94, 70, 94, 76, 8, 76)
    p.box(6, 74, 95, 85, fill="#ffffff")
    for x in (42, 50, 58):
        p.line(x, 48, x + 8, 42, width=3, fill="#ffffff")


def _backpack(p: _Pen) -> None:
    p.arc(38, 4, 62, 30, start=180, end=360, width=5)
    p.box(22, 16, 78, 92, radius=16)
    p.box(30, 56, 70, 84, fill=p.light, radius=5)
    p.line(30, 64, 70, 64)


def _hat(p: _Pen) -> None:
    p.oval(4, 54, 96, 82)
    p.shape(28, 66, 32, 32, 40, 24, 60, 24, 68, 32, 72, 66)
    p.box(28, 54, 72, 64, fill=p.dark, radius=0)


def _headphones(p: _Pen) -> None:
    p.arc(16, 12, 84, 92, start=180, end=360, width=8)
    p.box(8, 50, 32, 86, radius=8)
    p.box(68, 50, 92, 86, radius=8)


def _speaker(p: _Pen) -> None:
    p.box(22, 8, 78, 94, radius=8)
    p.oval(39, 16, 61, 38, fill=p.light)
    p.oval(29, 44, 71, 86, fill=p.light)
    p.oval(42, 57, 58, 73, fill=p.dark)


def _lamp(p: _Pen) -> None:
    p.shape(34, 12, 66, 12, 84, 48, 16, 48)
    p.line(50, 48, 50, 84, width=6)
    p.box(28, 82, 72, 92, fill=p.dark)


def _cable(p: _Pen) -> None:
    p.arc(16, 20, 84, 88, start=20, end=320, width=7, fill=p.fill)
    p.arc(30, 34, 70, 74, start=20, end=320, width=7, fill=p.fill)
    p.box(74, 26, 94, 40, fill=p.dark)
    p.box(62, 60, 90, 72, fill=p.dark)


def _pump(p: _Pen) -> None:
    p.line(50, 30, 50, 12, 28, 12, width=6)
    p.box(40, 22, 60, 34, fill=p.dark)
    p.box(26, 32, 74, 94, radius=9)
    p.box(34, 50, 66, 80, fill="#ffffff")


def _jar(p: _Pen) -> None:
    p.box(16, 40, 84, 88, radius=8)
    p.box(12, 24, 88, 44, fill=p.dark)
    p.box(30, 54, 70, 76, fill="#ffffff")


def _brush(p: _Pen) -> None:
    p.box(42, 52, 58, 96, fill=p.dark, radius=6)
    p.oval(26, 6, 74, 62)
    p.oval(33, 13, 67, 55, fill=p.light)
    for x in (40, 50, 60):
        p.line(x, 22, x, 46, width=3)


def _tube(p: _Pen) -> None:
    p.box(36, 8, 64, 44, fill=p.light)
    p.box(32, 42, 68, 94)
    p.line(32, 54, 68, 54)


def _carton(p: _Pen) -> None:
    p.shape(22, 22, 70, 22, 82, 12, 34, 12, fill=p.light)
    p.shape(70, 22, 82, 12, 82, 80, 70, 92, fill=p.dark)
    p.box(22, 22, 70, 92, radius=1)
    p.oval(33, 42, 59, 68, fill=p.light)


def _bar(p: _Pen) -> None:
    p.box(22, 8, 78, 92)
    for y in (14, 28):
        for x in (28, 43, 58):
            p.box(x, y, x + 13, y + 12, fill=p.light, radius=1)
    p.box(18, 44, 82, 94, fill="#f6efe2")
    p.box(28, 56, 72, 78)


def _pouch(p: _Pen) -> None:
    p.shape(22, 10, 78, 10, 86, 92, 14, 92)
    p.line(24, 20, 76, 20)
    p.oval(30, 40, 70, 76, fill=p.light)


def _carafe(p: _Pen) -> None:
    p.box(43, 4, 57, 14, fill=p.dark)
    p.box(43, 12, 57, 36, radius=0)
    p.shape(43, 34, 57, 34, 74, 56, 74, 94, 26, 94, 26, 56)
    p.box(34, 62, 66, 86, fill="#ffffff")


def _chair(p: _Pen) -> None:
    for x in (28, 70):
        p.line(x, 56, x - 4 if x < 50 else x + 4, 96, width=5)
    p.box(26, 6, 72, 52, radius=8)
    p.box(20, 50, 78, 66, fill=p.light, radius=6)


def _table(p: _Pen) -> None:
    for x0, x1 in ((26, 18), (74, 82), (44, 42), (56, 58)):
        p.line(x0, 40, x1, 94, width=5)
    p.oval(6, 24, 94, 50)


def _shelf(p: _Pen) -> None:
    p.box(18, 6, 82, 94, fill=p.light, radius=1)
    for y in (6, 34, 62, 88):
        p.box(18, y, 82, y + 6, radius=0)
    for x, y in ((24, 16), (32, 14), (58, 42), (66, 44), (26, 68), (36, 66)):
        p.box(x, y, x + 7, 34 if y < 30 else 62 if y < 60 else 88, fill=p.dark, radius=0)


def _cushion(p: _Pen) -> None:
    p.shape(10, 14, 50, 22, 90, 14, 82, 50, 90, 88, 50, 80, 10, 88, 18, 50)
    p.line(30, 34, 70, 68, fill=p.light)
    p.line(70, 34, 30, 68, fill=p.light)


KINDS: dict[str, Callable[[_Pen], None]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        *(_parcel, _mug, _bottle, _pan, _kettle, _shirt, _shoe, _backpack, _hat, _headphones, _speaker, _lamp, _cable),
        *(_pump, _jar, _brush, _tube, _carton, _bar, _pouch, _carafe, _chair, _table, _shelf, _cushion),
    )
}
