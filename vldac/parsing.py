"""Reading the model's answer. Model output is hostile input: nothing in it is ever evaluated, guessed or made up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

#: Longer texts are not read at all. A response of 4,096 tokens stays below it.
MAX_CHARACTERS = 65_536


@dataclass(frozen=True)
class ParsedResponse:
    """A readable answer.

    Attributes:
        thoughts: what the model wrote before it chose, "" if nothing.
        action: the action in the model's words; whether it is legal is for the environment to say.
    """

    thoughts: str
    action: str


def parse_response(text: str) -> ParsedResponse | None:
    """Reads {"thoughts": "...", "action": "..."}.

    The text must be one JSON object (RFC 8259: no NaN, no duplicate keys) with a string or an integer at "action" and,
    if present, a string at "thoughts"; other keys are ignored. The one fallback: where something stands around the
    object, such as a code fence, the object that begins at the first "{" is read instead.

    Returns:
        The answer, or None if the text is not one.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    value = _object(text)
    if value is None:
        return None
    thoughts, action = value.get("thoughts", ""), value.get("action")
    if isinstance(action, int) and not isinstance(action, bool):
        action = str(action)
    if not isinstance(action, str) or not isinstance(thoughts, str):
        return None
    return ParsedResponse(thoughts, action.strip())


def render_response(answer: ParsedResponse) -> str:
    """The text of an answer, as `parse` reads it back."""
    return json.dumps({"thoughts": answer.thoughts, "action": answer.action}, ensure_ascii=False)


def action_start(text: str) -> int | None:
    """Where the key "action" begins (its quotation mark) in a response that `parse_response` can read, else None."""
    if parse_response(text) is None:
        return None
    position = _after_space(text, text.index("{") + 1)
    while True:  # the object is whole, as it could be parsed
        key, end = _DECODER.raw_decode(text, position)
        if key == "action":
            return position
        value = _after_space(text, _after_space(text, end) + 1)  # the colon
        _, end = _DECODER.raw_decode(text, value)
        position = _after_space(text, _after_space(text, end) + 1)  # the comma


def _after_space(text: str, position: int) -> int:
    while text[position] in " \t\n\r":
        position += 1
    return position


def _object(text: str) -> dict[str, Any] | None:
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):  # nesting as deep as the answer is long
        return None
    return value if isinstance(value, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
