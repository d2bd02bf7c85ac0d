"""When two phrases count as the same, and which color a phrase names (WebShop's goal.py and normalize.py)."""

from __future__ import annotations

from functools import lru_cache

from rapidfuzz import fuzz, utils

from envs.webshop.text import word_list

#: Phrases count as the same above this score of 0 to 100.
_SAME = 85
#: The colors of the released shop. The first of this order that occurs in a text stands for it.
_COLORS = word_list("colors")


@lru_cache(maxsize=2**16)
def same(a: str, b: str) -> bool:
    """Whether two phrases count as the same: their token set ratio, rounded to a whole number, is above 85.

    The ratio compares the words that both phrases hold with each phrase, so a phrase is the same as any other that
    holds all its words. Case and punctuation do not count, and what is not ASCII is left out, as thefuzz does it.
    """
    return round(fuzz.token_set_ratio(_plain(a), _plain(b))) > _SAME


def normalize_color(text: str) -> str:
    """The first color, in the order of the list, that occurs anywhere in the text, or the text where none does."""
    return next((color for color in _COLORS if color in text), text)


def _plain(text: str) -> str:
    return utils.default_process(text.encode("ascii", "ignore").decode())
