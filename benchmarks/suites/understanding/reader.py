"""Reading which option an answer names. Strict: what could mean two things, or nothing, is no answer."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from envs.base import match_action
from vldac import parsing

_MARKED = re.compile(r"(?<![\w'])([A-Z])[.)](?!\w)")


def read(text: str, options: Sequence[str], *, lettered: bool) -> str | None:
    """The option that `text` names, or None.

    The first of these rules that applies decides:

    1. The text holds the project's JSON answer (`vldac.parsing.parse`): its action must be an option, or its letter.
    2. The whole text, without white space around it and without one full stop at its end, is an option or its letter.
    3. The first word is a letter, on its own or before ")" or "."; where it stands alone, or where the rest is an
       option, the rest must be the option of this letter ("B red"; "A red shape" may begin with an article and is no
       answer). No other letter may be marked so later in the text ("A) or B)").

    Case and the width of spaces do not matter, but for the letter of rule 3, which is a capital.

    Args:
        text: whatever a model wrote.
        options: all different, at most 26, none of them a single letter.
        lettered: whether the options were shown with the letters A, B, C ...; without it no letter is read.
    """
    if len(text) > parsing.MAX_CHARACTERS:
        return None
    answer = parsing.parse_response(text)
    if answer is not None:
        return _named(answer.action, options, lettered=lettered)
    whole = _named(text.strip().removesuffix("."), options, lettered=lettered)
    if whole is not None or not lettered:
        return whole
    first, rest = [*text.split(maxsplit=1), "", ""][:2]
    letter = first.rstrip(").")
    index = string.ascii_uppercase[: len(options)].find(letter) if len(letter) == 1 else -1
    if index < 0 or len(first) - len(letter) > 1:
        return None
    named = _named(rest.strip().removesuffix("."), options, lettered=False)
    agrees = named == options[index] if named is not None or first == letter else True
    return options[index] if agrees and set(_MARKED.findall(text)) <= {letter} else None


def _named(text: str, options: Sequence[str], *, lettered: bool) -> str | None:
    index = match_action(text, options)
    if index is None and lettered:
        index = match_action(text, string.ascii_uppercase[: len(options)])
    return None if index is None else options[index]
