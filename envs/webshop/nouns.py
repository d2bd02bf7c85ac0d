"""The nouns of a product's title.

The released shop tags titles with a spaCy model. `spacy_nouns` does the same where a model is installed. `rule_nouns`
needs none: it takes every word for a noun that is not known to be something else. That is exact for the catalogues of
this package, whose words are all known, and an approximation elsewhere: titles are mostly nouns and names.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache, lru_cache
from typing import Any, Literal

from envs.webshop.reward import Nouns
from envs.webshop.text import word_list

_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_NOT_NOUNS = frozenset(word_list("not_nouns"))
#: Three letters before the ending keep "table" and "cable".
_ADJECTIVE = re.compile(r".{3,}(less|able|ible|proof|resistant|friendly|ous)")


def nouns_of(tagger: Literal["spacy", "rules"]) -> Nouns:
    """The finder that a catalogue asks for: spaCy's where one of its English models is installed, else the rules."""
    return spacy_nouns if tagger == "spacy" and _installed_model() else rule_nouns


@lru_cache(maxsize=2**16)
def rule_nouns(title: str) -> tuple[str, ...]:
    """The words of a title, in small letters, that are not known to be something else than nouns."""
    words = (word.lower() for word in _WORD.findall(title))
    return tuple(word for word in words if word not in _NOT_NOUNS and not _ADJECTIVE.fullmatch(word))


@lru_cache(maxsize=2**16)
def spacy_nouns(title: str) -> tuple[str, ...]:
    """The tokens of a title, in small letters, that spaCy's largest installed English model tags NOUN or PROPN."""
    return tuple(token.text.lower() for token in _model()(title) if token.pos_ in ("NOUN", "PROPN"))


def _installed_model() -> str | None:
    return next((name for name in _MODELS if importlib.util.find_spec(name) is not None), None)


@cache
def _model() -> Any:
    name = _installed_model()
    assert name is not None
    import spacy  # noqa: PLC0415  # seconds to import, and needed for the released files only

    return spacy.load(name, exclude=["ner", "lemmatizer"])
