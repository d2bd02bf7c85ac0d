"""Reading the model's answer. Model output is hostile input: nothing in it is ever evaluated, guessed or made up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

#: Longer texts are not read at all. A response of 4,096 tokens stays below it.
MAX_CHARACTERS = 65_536
#: What models that were trained to think before they answer write around their thoughts.
THINKING = ("<think>", "</think>")
_SPACE = " \t\n\r"
#: Halves of a character that JSON can write and no text can hold.
_SURROGATE = re.compile("[\ud800-\udfff]")
_OPENING = re.compile(r'\{[ \t\n\r]*["}]')
#: A string, which ends with the text at the latest, or a brace outside of strings.
_STRING_OR_BRACE = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[{}]', re.DOTALL)


@dataclass(frozen=True)
class ParsedResponse:
    """A readable answer.

    Attributes:
        thoughts: what the model wrote before it chose, "" if nothing: between its marks of thinking, at "thoughts", or
            both, a line apart.
        action: the action in the model's words; whether it is legal is for the environment to say.
    """

    thoughts: str
    action: str


def parse_response(text: str) -> ParsedResponse | None:
    """Reads {"thoughts": "...", "action": "..."}.

    An answer is a JSON object (RFC 8259: no NaN, no duplicate keys) with a string or an integer at "action" and, if
    present, a string at "thoughts"; other keys are ignored. Where a text begins with one, apart from white space, that
    is the answer, whatever follows. The one fallback: where something stands before it, such as a code fence or prose,
    the last answer in the text is read, because models try out others before it. An object inside of another one, whole
    or broken, is never an answer, and neither is what follows one that is broken off; a brace that neither a quotation
    mark nor another one that closes follows begins none. Halves of a surrogate pair (U+D800 to U+DFFF) are no text.

    Where a text begins with `<think>`, all up to `</think>` is thoughts, and what follows is read as above. Each of
    the two must stand in the text once: who is still thinking has not answered.

    Takes time in proportion to the text's length.

    Returns:
        The answer, or None if the text holds none.
    """
    found = _find(text)
    return None if found is None else found[1]


def is_settled(text: str) -> bool:
    """Whether a text is read the same whatever follows it: it begins with an answer, whose object is closed."""
    found = _find(text)
    return found is not None and not text[: found[0]].strip(_SPACE)


def render_response(answer: ParsedResponse) -> str:
    """The text of an answer, as `parse_response` reads it back."""
    return json.dumps({"thoughts": answer.thoughts, "action": answer.action}, ensure_ascii=False)


def action_start(text: str) -> int | None:
    """Where the key "action" begins (its quotation mark) in what `parse_response` reads, None where that is none."""
    found = _find(text)
    if found is None:
        return None
    position = _after_space(text, found[0] + 1)
    decoder = json.JSONDecoder()
    while True:  # the object is whole, as it could be parsed
        key, end = decoder.raw_decode(text, position)
        if key == "action":
            return position
        value = _after_space(text, _after_space(text, end) + 1)  # the colon
        _, end = decoder.raw_decode(text, value)
        position = _after_space(text, _after_space(text, end) + 1)  # the comma


def _after_space(text: str, position: int) -> int:
    while text[position] in _SPACE:
        position += 1
    return position


def _find(text: str) -> tuple[int, ParsedResponse] | None:
    """The answer of a text, and where its object begins."""
    if len(text) > MAX_CHARACTERS:
        return None
    thoughts, position = "", 0
    if text.lstrip(_SPACE).startswith(THINKING[0]):
        if any(text.count(mark) != 1 for mark in THINKING):
            return None
        before, _, after = text.partition(THINKING[1])
        thoughts, position = before.lstrip(_SPACE).removeprefix(THINKING[0]).strip(), len(text) - len(after)
    first = len(text) - len(text[position:].lstrip(_SPACE))
    last = None
    try:
        for start, value in _objects(text, position):
            answer = _answer(value)
            if answer is not None:
                last = start, replace(answer, thoughts="\n".join(filter(None, (thoughts, answer.thoughts))))
                if start == first:
                    break
    except RecursionError:  # nesting as deep as the answer is long
        return None
    return last


def _answer(value: dict[str, Any]) -> ParsedResponse | None:
    thoughts, action = value.get("thoughts", ""), value.get("action")
    if isinstance(action, int) and not isinstance(action, bool):
        action = str(action)
    if not isinstance(action, str) or not isinstance(thoughts, str):
        return None
    if _SURROGATE.search(action) or _SURROGATE.search(thoughts):
        return None
    return ParsedResponse(thoughts, action.strip())


def _objects(text: str, position: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every object from a position on that lies in no other, and where it begins; a broken one is passed over whole."""
    decoder = _Decoder()
    while (opening := _OPENING.search(text, position)) is not None:
        start = opening.start()
        decoder.sound = True
        try:
            value, position = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            end = _closing(text, start)
            if end is None:
                return
            position = end
        else:
            if decoder.sound:
                yield start, value


def _closing(text: str, start: int) -> int | None:
    """Where the braces that open at `start` are closed again, None where they are not."""
    depth = 0
    for match in _STRING_OR_BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return None


class _Decoder(json.JSONDecoder):
    """Reads what Python takes for JSON to its end, and tells whether it was JSON."""

    def __init__(self) -> None:
        self.sound = True
        super().__init__(object_pairs_hook=self._pairs, parse_constant=self._constant, parse_int=self._integer)

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        self.sound &= len(value) == len(pairs)
        return value

    def _constant(self, _name: str) -> None:  # NaN, Infinity, -Infinity
        self.sound = False

    def _integer(self, digits: str) -> int:
        try:
            return int(digits)
        except ValueError:  # more digits than Python converts
            self.sound = False
            return 0
