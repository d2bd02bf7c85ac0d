"""The nouns of a product's title.

The released shop tags titles with spaCy's en_core_web_sm, and so does `spacy_nouns`. `rule_nouns` needs no model: it
takes every word for a noun that is not known to be something else. That is exact for the catalogues of this package,
whose words are all known, and an approximation elsewhere: titles are mostly nouns and names.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from envs.base import MissingSimulatorError, SimulatorError
from envs.webshop.products import Tagger
from envs.webshop.reward import Nouns
from envs.webshop.text import word_list

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_NOT_NOUNS = frozenset(word_list("not_nouns"))
#: Three letters before the ending keep "table" and "cable".
_ADJECTIVE = re.compile(r".{3,}(less|able|ible|proof|resistant|friendly|ous)")


def nouns_of(tagger: Tagger) -> Nouns:
    """The finder of this name.

    Raises:
        MissingSimulatorError: it is spaCy's, which is not installed, or whose model is not.
        SimulatorError: the model cannot be loaded.
    """
    if tagger == "rules":
        return rule_nouns
    _model()
    return spacy_nouns


@lru_cache(maxsize=2**16)
def rule_nouns(title: str) -> tuple[str, ...]:
    """The words of a title, in small letters, that are not known to be something else than nouns."""
    words = (word.lower() for word in _WORD.findall(title))
    return tuple(word for word in words if word not in _NOT_NOUNS and not _ADJECTIVE.fullmatch(word))


@lru_cache(maxsize=2**16)
def spacy_nouns(title: str) -> tuple[str, ...]:
    """The tokens of a title, in small letters, that spaCy's en_core_web_sm tags NOUN or PROPN."""
    return tuple(token.text.lower() for token in _model()(title) if token.pos_ in ("NOUN", "PROPN"))


@cache
def _model() -> Any:
    """The model that the released goal.py loads, whatever others are installed."""
    try:
        import en_core_web_sm  # noqa: PLC0415  # seconds to import, and needed for the released files only

        return en_core_web_sm.load(exclude=["ner", "lemmatizer"])
    except ModuleNotFoundError as error:
        raise MissingSimulatorError(
            f"the nouns of WebShop's released titles are found by spaCy's en_core_web_sm, and {error.name!r} is not "
            "installed; install it with: pip install spacy && python -m spacy download en_core_web_sm, or set the "
            'option tagger to "rules", which changes some rewards',
            name=error.name,
        ) from error
    except (OSError, ValueError) as error:  # of another version of spaCy
        reason = " ".join(str(error).split())[:200]
        raise SimulatorError(
            f"spaCy cannot load en_core_web_sm ({reason}); install the model of this version of spaCy with: "
            "python -m spacy download en_core_web_sm"
        ) from error
