"""Text for prompts and actions: printable ASCII, bounded."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

DATA = Path(__file__).with_name("data")

_SPELLED = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("•·●▪", "*"),
        "›": ">",
        "‹": "<",
        "×": "x",
        "…": "...",
        "ß": "ss",
        "Æ": "AE",
        "æ": "ae",
        "Ø": "O",
        "ø": "o",
        "Ł": "L",
        "ł": "l",
        "€": "EUR",
        "£": "GBP",
        "©": "(c)",
        "®": "(R)",
        "™": "(TM)",
        "°": " degrees",
        "µ": "u",
    }
)


def printable(text: str) -> str:
    """The text on one line of printable ASCII: accents are dropped, signs spelled, and what is left becomes "?"."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text.translate(_SPELLED))
        kept = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
        text = kept.translate(_SPELLED).encode("ascii", "replace").decode()
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(letter for letter in line if letter.isprintable())


def label(text: str) -> str:
    """What is clicked to choose a text: the text in small letters of printable ASCII."""
    return printable(text.lower())


def shorten(text: str, length: int) -> str:
    """The text, cut to at most `length` characters with a note of how many are left out."""
    if len(text) <= length:
        return text
    note = f" ... ({len(text)} characters in all)"
    return text[: max(length - len(note), 0)] + note


@cache
def word_list(name: str) -> tuple[str, ...]:
    """The words of a file of this package's data, in their order."""
    return tuple((DATA / f"{name}.txt").read_text(encoding="ascii").split())
