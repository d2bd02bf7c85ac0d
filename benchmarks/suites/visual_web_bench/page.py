"""The picture of an invented website, drawn with Pillow and its bundled font: no browser is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from benchmarks.suites.visual_web_bench.example import Box
from benchmarks.suites.visual_web_bench.sites import Link, Site
from vldac.models.conversation import Image

_INK, _PAPER, _PANEL, _EDGE, _SOFT = "#1b1f24", "#ffffff", "#f1f3f6", "#c9ced6", "#5a6472"
_MARK, _LABEL, _LETTER = "#ff0000", "#000000", "#ffffff"

#: Left, top, right, bottom in pixels.
PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Rectangle:
    box: PixelBox
    fill: str
    outline: str | None = None


@dataclass(frozen=True)
class _Line:
    x: int
    y: int
    text: str
    size: int
    color: str


@dataclass
class Page:
    """A page that is laid out.

    Attributes:
        width: in pixels.
        height: in pixels.
        unit: size of the body's letters in pixels.
        shapes: what is drawn, in this order.
        boxes: of the elements: "heading", "text", "fact", and the labels of links, buttons and cards.
    """

    width: int
    height: int
    unit: int
    shapes: list[_Rectangle | _Line] = field(default_factory=list)
    boxes: dict[str, PixelBox] = field(default_factory=dict)

    def share(self, name: str) -> Box:
        """The box of an element as shares of width and height, to three digits."""
        left, top, right, bottom = self.boxes[name]
        width, height = self.width, self.height
        return round(left / width, 3), round(top / height, 3), round(right / width, 3), round(bottom / height, 3)


def lay_out(site: Site, width: int, height: int) -> Page:
    """Where everything goes on a page of width x height pixels, at least 400 x 300."""
    u = round(height / 28)
    page = Page(width, height, u)
    header, footer, gap = round(2.4 * u), round(1.8 * u), round(0.8 * u)
    page.shapes.append(_Rectangle((0, 0, width - 1, header), site.dark))
    page.shapes.append(_Line(gap, round(0.5 * u), site.name, round(1.2 * u), _PAPER))
    links = [link for link in site.links if link.kind == "link"]
    left = _side_links(page, links, header, footer) if site.side else _top_links(page, links)
    room = width - left - gap
    below = _paragraph(page, "heading", site.heading, left, header + gap, room=room, size=round(1.8 * u))
    below = _paragraph(page, "text", site.text, left, below + gap // 2, room=min(room, 36 * u))
    button = next(link for link in site.links if link.kind == "button")
    below = _button(page, button, left, below + gap, site.accent)
    _paragraph(page, "fact", site.fact, left, below + gap, room=room, color=_SOFT)
    cards = [link for link in site.links if link.kind == "card"]
    _cards(page, cards, left=left, bottom=height - footer - gap, room=room, accent=site.accent)
    page.shapes.append(_Rectangle((0, height - footer, width - 1, height - 1), _PANEL))
    page.shapes.append(_Line(gap, height - round(1.5 * u), f"{site.name}, an invented website", u, _SOFT))
    return page


def draw(page: Page, boxed: str | None = None, labels: Mapping[str, str] | None = None) -> Image:
    """The picture of a page, (height, width, 3) uint8.

    Args:
        page: as `lay_out` made it.
        boxed: element that gets a red rectangle.
        labels: letter of each element that gets a red rectangle with a black label.
    """
    image = PillowImage.new("RGB", (page.width, page.height), _PAPER)
    pen = ImageDraw.Draw(image)
    for shape in page.shapes:
        if isinstance(shape, _Rectangle):
            pen.rectangle(shape.box, shape.fill, shape.outline)
        else:
            pen.text((shape.x, shape.y), shape.text, shape.color, _font(shape.size))
    labels = labels or {}
    for name in [boxed] if boxed else labels:
        pen.rectangle(page.boxes[name], outline=_MARK, width=max(page.unit // 6, 1))
    for name, letter in labels.items():
        left, top, right, bottom = label_box(page, name)
        pen.rectangle((left, top, right, bottom), _LABEL)
        middle = (left + (right - left) / 2, top + (bottom - top) / 2)
        pen.text(middle, letter, _LETTER, _font(page.unit), anchor="mm")
    return np.asarray(image, dtype=np.uint8).copy()


def label_box(page: Page, name: str) -> PixelBox:
    """Where the letter of an element is: beside what is one line high, in the upper right corner of what is higher."""
    box = page.boxes[name]
    side = round(1.4 * page.unit)
    high = box[3] - box[1] > 3 * page.unit
    left = min(box[2] - side if high else box[2] + 1, page.width - side - 1)
    top = box[1] if high else max((box[1] + box[3] - side) // 2, 0)
    return left, top, left + side, top + side


def _top_links(page: Page, links: list[Link]) -> int:
    """Links in the header, from the right; the rest of the page begins at the left."""
    right = page.width - 2 * page.unit
    for link in reversed(links):
        left = right - _length(link.label, page.unit)
        _link(page, link, left, round(0.6 * page.unit), _PAPER)
        right = left - round(1.9 * page.unit)
    return round(0.8 * page.unit)


def _side_links(page: Page, links: list[Link], header: int, footer: int) -> int:
    """Links in a column at the left; the rest of the page begins beside it."""
    u = page.unit
    column = max(_length(link.label, u) for link in links) + round(3.2 * u)
    page.shapes.append(_Rectangle((0, header, column, page.height - footer), _PANEL))
    for number, link in enumerate(links):
        _link(page, link, round(0.8 * u), header + round((1 + 2.4 * number) * u), _INK)
    return column + round(0.8 * u)


def _button(page: Page, link: Link, left: int, top: int, accent: str) -> int:
    """A button; returns where it ends."""
    u = page.unit
    box = left, top, left + _length(link.label, u) + round(1.6 * u), top + 2 * u
    page.shapes.append(_Rectangle(box, accent))
    page.shapes.append(_Line(left + round(0.8 * u), top + round(0.4 * u), link.label, u, _PAPER))
    page.boxes[link.label] = box
    return box[3]


def _cards(page: Page, cards: list[Link], *, left: int, bottom: int, room: int, accent: str) -> None:
    """Cards side by side above `bottom`, each with a strip of color, a title and a detail."""
    u = page.unit
    gap, top = round(0.8 * u), bottom - 8 * u
    width = (room - gap * (len(cards) - 1)) // len(cards)
    for number, card in enumerate(cards):
        x = left + number * (width + gap)
        page.shapes.append(_Rectangle((x, top, x + width, bottom), _PANEL, _EDGE))
        page.shapes.append(_Rectangle((x, top, x + width, top + round(1.6 * u)), accent))
        y = top + 2 * u
        for line in _wrap(card.label, u, width - u):
            page.shapes.append(_Line(x + u // 2, y, line, u, _INK))
            y += round(1.3 * u)
        page.shapes.append(_Line(x + u // 2, bottom - round(1.6 * u), card.detail, u, _SOFT))
        page.boxes[card.label] = (x, top, x + width, bottom)


def _paragraph(
    page: Page, name: str, words: str, left: int, top: int, *, room: int, size: int | None = None, color: str = _INK
) -> int:
    """Lines of text as an element; returns where they end."""
    size = size or page.unit
    lines = _wrap(words, size, room)
    step = round(1.3 * size)
    for number, line in enumerate(lines):
        page.shapes.append(_Line(left, top + number * step, line, size, color))
    width = max(_length(line, size) for line in lines)
    page.boxes[name] = (left - 2, top - 1, left + width + 2, top + len(lines) * step + 1)
    return top + len(lines) * step


def _link(page: Page, link: Link, x: int, y: int, color: str) -> None:
    """A link is one line of text."""
    page.shapes.append(_Line(x, y, link.label, page.unit, color))
    page.boxes[link.label] = (x - 2, y - 1, x + _length(link.label, page.unit) + 2, y + round(1.3 * page.unit))


def _wrap(words: str, size: int, room: int) -> list[str]:
    """Lines that are at most `room` pixels long, if no word is longer."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _length(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _length(words: str, size: int) -> int:
    return round(_font(size).getlength(words))


@lru_cache(maxsize=32)  # Pillow unpacks the font anew each time
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
