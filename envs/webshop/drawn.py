"""A page of the shop as a small picture, drawn with Pillow: no server and no browser."""

from __future__ import annotations

import bisect
import math
import textwrap
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from envs.webshop.pictures import picture, rgb
from envs.webshop.products import Product
from envs.webshop.prompts import section_text
from envs.webshop.shop import BUY, PAGE_SIZE, Shop, State
from envs.webshop.text import label, printable

_HEADER, _ACCENT, _PAPER, _INK = "#1d3557", "#f4a024", "#ffffff", "#1b1f24"
_PLAIN_LINE, _PANEL = "#c9ced6", "#eef1f5"
#: Letters lower than this many pixels cannot be read and are not drawn.
_READABLE = 6


def draw_page(shop: Shop, state: State, width: int, height: int) -> NDArray[np.uint8]:
    """The picture of a page, (height, width, 3) uint8, with as much of products, prices and options as has room."""
    image = Image.new("RGB", (width, height), _PAPER)
    _Painter(image).page(shop, state)
    return np.asarray(image, dtype=np.uint8).copy()


@lru_cache(maxsize=8192)  # the same titles, prices and buttons are on many pages
def _line(words: str, size: int, room: int) -> Image.Image:
    """A line of text as a mask, as many of its letters as fit into `room` pixels."""
    font = _font(size)
    letters = range(1, len(words) + 1)
    fitting = bisect.bisect_right(letters, room, key=lambda n: math.ceil(font.getlength(words[:n])))
    mask = Image.new("L", (room, size * 3 // 2))
    ImageDraw.Draw(mask).text((0, mask.height / 2), words[:fitting], 255, font, anchor="lm")
    return mask


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


class _Painter:
    def __init__(self, image: Image.Image) -> None:
        self.image, self.draw = image, ImageDraw.Draw(image)
        self.width, self.height = image.size
        self.header = max(self.height // 10, 3)
        self.size = max(round(min(self.width, self.height) / 26), 1)  # height of a letter

    def page(self, shop: Shop, state: State) -> None:
        """Draws everything."""
        self.draw.rectangle((0, 0, self.width, self.header), fill=_HEADER)
        self.text(2, self.header // 2, "WebShop", "white", self.width // 2)
        if state.page == "search":
            self.search_bar()
        elif state.page == "results":
            self.results(shop, state)
        elif state.page == "done":
            self.done()
        else:
            self.item(shop, state)

    def text(self, x: float, middle: float, words: str, color: str, room: float) -> None:
        """A line of text that is cut where it would leave its room."""
        if self.size >= _READABLE and words and room >= 1:
            mask = _line(words, self.size, int(room))
            self.image.paste(color, (round(x), round(middle - mask.height / 2)), mask)

    def paragraph(self, x: float, top: float, words: str, room: float) -> None:
        """Lines of text down to the end of the page."""
        step = self.size * 1.3
        lines = textwrap.wrap(
            words, max(int(room / self.size * 1.9), 1), max_lines=max(int((self.height - top) / step), 1)
        )
        for number, line in enumerate(lines):
            self.text(x, top + (number + 0.6) * step, line, _INK, room)

    def search_bar(self) -> None:
        """An empty field with a button."""
        w, h = self.width, self.height
        self.draw.rectangle((w * 0.1, h * 0.42, w * 0.72, h * 0.58), fill=_PAPER, outline=_INK)
        self.draw.rectangle((w * 0.72, h * 0.42, w * 0.9, h * 0.58), fill=_ACCENT, outline=_INK)

    def results(self, shop: Shop, state: State) -> None:
        """Up to ten cards in two rows, or fewer and larger ones where fewer were found."""
        hits = shop.shown_hits(state)
        columns = next(n for n in (2, 3, 4, 5) if len(hits) <= 2 * n or 2 * n == PAGE_SIZE)
        cell_w, cell_h = self.width / columns, (self.height - self.header) / 2
        side = round(min(cell_w, cell_h - 2 * self.size * (self.size >= _READABLE)) * 0.86)
        for number, product in enumerate(hits):
            left = number % columns * cell_w
            top = self.header + number // columns * cell_h
            self.product(product, {}, round(left + (cell_w - side) / 2), round(top + cell_h * 0.04), side)
            line = top + cell_h * 0.04 + side + self.size * 0.7
            self.text(left + 2, line, f"{label(product.asin)} {product.shown_price()}", _INK, cell_w - 4)
            self.text(left + 2, line + self.size * 1.1, printable(product.title), _INK, cell_w - 4)

    def item(self, shop: Shop, state: State) -> None:
        """The picture at the left; at the right title, price, options, of which the chosen ones are marked, and the
        button that buys. A section shows its name in place of the options."""
        product, chosen = shop.product(state), dict(state.options)
        side = round(min(self.width * 0.5, self.height - self.header) * 0.86)
        self.product(product, chosen, round(self.width * 0.03), round(self.header + self.height * 0.06), side)
        left, line = self.width * 0.55, self.header + self.height * 0.1
        self.text(left, line, printable(product.title), _INK, self.width * 0.44)
        self.text(left, line + 1.4 * self.size, product.shown_price(chosen), _INK, self.width * 0.44)
        top, bottom = self.height * 0.32, self.height * 0.82
        if state.section:
            self.draw.rectangle((left, top, self.width * 0.97, self.height * 0.97), fill=_PANEL)
            self.paragraph(left + 2, top, f"{state.section}: {section_text(product, state.section)}", self.width * 0.4)
            return
        rows = [(name, value) for name, values in product.options.items() for value in values]
        row = min((bottom - top) / max(len(rows), 1), self.height * 0.13)
        for number, (name, value) in enumerate(rows):
            y = top + number * row
            on = chosen.get(name) == value
            self.draw.rectangle(
                (left, y, self.width * 0.97, y + max(row * 0.8, 1)), fill=_ACCENT if on else _PAPER, outline=_PLAIN_LINE
            )
            if name == "color":
                self.draw.rectangle((left, y, left + row * 0.8, y + max(row * 0.8, 1)), fill=rgb(value))
            self.text(left + row, y + row * 0.4, printable(value), _INK, self.width * 0.42 - row)
        self.draw.rectangle((left, self.height * 0.86, self.width * 0.97, self.height * 0.96), fill=_ACCENT)
        self.text(left + 2, self.height * 0.91, BUY, _INK, self.width * 0.4)

    def done(self) -> None:
        """A tick."""
        w, h = self.width, self.height
        self.draw.line(
            (w * 0.3, h * 0.55, w * 0.45, h * 0.72, w * 0.72, h * 0.36), fill="#2f9e57", width=max(w // 20, 2)
        )

    def product(self, product: Product, options: dict[str, str], x: int, y: int, side: int) -> None:
        """The picture of a product."""
        if side > 0:
            self.image.paste(picture(product.picture, product.shown_color(options), side), (x, y))
