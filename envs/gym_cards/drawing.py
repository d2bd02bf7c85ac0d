"""Text and playing cards, drawn with Pillow and its bundled font."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageDraw

from envs.fonts import fit_font

TABLE = "#35654d"
SUITS = "HSDC"
_FACE = 0.3  # middle of what is printed on a card, as a share of its height


class Card(NamedTuple):
    """A playing card.

    Attributes:
        rank: 1 (ace) to 13 (king).
        suit: one of `SUITS`.
    """

    rank: int
    suit: str

    @property
    def value(self) -> int:
        """What it counts: its rank, and 10 for a face card."""
        return min(self.rank, 10)

    @property
    def face(self) -> str:
        """What is printed on it."""
        return {1: "A", 11: "J", 12: "Q", 13: "K"}.get(self.rank, str(self.rank))


@lru_cache(maxsize=256)
def _card_picture(card: Card | None, width: int) -> Image.Image:
    """A card of `width` pixels, 7/5 as high as wide, face down where it is None; clear outside its round corners."""
    height = round(width * 1.4)
    image = Image.new("RGBA", (width + 1, height + 1))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, width, height), radius=width * 0.08, fill="white", outline="black")
    if card is None:
        inset = max(width * 0.1, 1)
        draw.rectangle((inset, inset, width - inset, height - inset), fill="#2a4b8d")
        return image
    font = fit_font("10", round(width * 0.8), round(height * 0.42))
    draw.text((width / 2, height * _FACE), card.face, _color(card.suit), font, anchor="mm")
    _draw_suit(draw, card.suit, width / 2, height * 0.74, width * 0.22)
    return image


def _color(suit: str) -> str:
    return "#c8102e" if suit in "HD" else "black"


def _draw_suit(draw: ImageDraw.ImageDraw, suit: str, x: float, y: float, r: float) -> None:
    """Draws a suit of radius r about (x, y)."""
    color = _color(suit)

    def circle(cx: float, cy: float, radius: float) -> None:
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=color)

    if suit == "D":
        draw.polygon([(x, y - r), (x + 0.75 * r, y), (x, y + r), (x - 0.75 * r, y)], fill=color)
        return
    if suit == "H":
        circle(x - 0.48 * r, y - 0.4 * r, 0.52 * r)
        circle(x + 0.48 * r, y - 0.4 * r, 0.52 * r)
        draw.polygon([(x - 0.95 * r, y - 0.2 * r), (x + 0.95 * r, y - 0.2 * r), (x, y + r)], fill=color)
        return
    if suit == "S":
        circle(x - 0.45 * r, y + 0.25 * r, 0.5 * r)
        circle(x + 0.45 * r, y + 0.25 * r, 0.5 * r)
        draw.polygon([(x - 0.92 * r, y + 0.1 * r), (x + 0.92 * r, y + 0.1 * r), (x, y - r)], fill=color)
    else:
        for cx, cy in ((x, y - 0.5 * r), (x - 0.5 * r, y + 0.2 * r), (x + 0.5 * r, y + 0.2 * r)):
            circle(cx, cy, 0.46 * r)
    draw.polygon([(x, y), (x + 0.35 * r, y + r), (x - 0.35 * r, y + r)], fill=color)


def table(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty green table of width x height pixels, and what draws on it."""
    image = Image.new("RGB", (width, height), TABLE)
    return image, ImageDraw.Draw(image)


def faces(cards: Sequence[Card], x: float, y: float, width: float) -> list[tuple[str, float, float]]:
    """What is printed on the cards of a row, with the places of the centers, in pixels; see `draw_row`."""
    return [
        (card.face, x + width * (1.08 * number + 0.5), y + width * 1.4 * _FACE) for number, card in enumerate(cards)
    ]


def draw_row(image: Image.Image, cards: Sequence[Card | None], x: float, y: float, width: float) -> None:
    """Draws cards of one width side by side, the first with its upper left corner at (x, y); None is face down."""
    for number, card in enumerate(cards):
        picture = _card_picture(card, round(width))
        image.paste(picture, (round(x + number * width * 1.08), round(y)), picture)
