from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vldac.parsing import MAX_CHARACTERS, ParsedResponse, parse_response, render_response

DEEP = '{"action": ' + "[" * 20_000 + "]" * 20_000 + "}"
DEEP_OBJECTS = '{"a":' * 9_000 + "1" + "}" * 9_000


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"thoughts": "red box", "action": "left"}', ParsedResponse("red box", "left")),
        (' \n{"action": "left", "thoughts": ""}\n', ParsedResponse("", "left")),
        ('{"action": "left"}', ParsedResponse("", "left")),
        ('{"action": "  left "}', ParsedResponse("", "left")),
        ('{"action": 3}', ParsedResponse("", "3")),
        ('{"action": -1, "extra": [null, {"a": 1.5}]}', ParsedResponse("", "-1")),
        ('{"thoughts": "\\u00e9 \\" \\\\", "action": "+"}', ParsedResponse('é " \\', "+")),
        ('```json\n{"action": "left"}\n```', ParsedResponse("", "left")),
        ('Sure! {"action": "left"} Good luck.', ParsedResponse("", "left")),
        ('{"action": "left"} {"action": "right"}', ParsedResponse("", "left")),
        ('{"action": ""}', ParsedResponse("", "")),
        # What is not an answer.
        ("", None),
        ("left", None),
        ("null", None),
        ("[]", None),
        ("{", None),
        ("{}", None),
        ('"{"', None),
        ('{"thoughts": "only"}', None),
        ('{"action": null}', None),
        ('{"action": true}', None),
        ('{"action": false}', None),
        ('{"action": 1.0}', None),
        ('{"action": ["left"]}', None),
        ('{"action": {"name": "left"}}', None),
        ('{"action": "left", "thoughts": 3}', None),
        ('{"action": "left", "thoughts": null}', None),
        ('{"action": "left", "thoughts": ["a"]}', None),
        ('{"action": "left", "action": "left"}', None),
        ('{"action": "left", "note": {"a": 1, "a": 2}}', None),
        ('{"action": "left", "note": NaN}', None),
        ('{"action": "left", "note": -Infinity}', None),
        ("{'action': 'left'}", None),
        ('{"action": "left",}', None),
        ('{"action": "left"', None),
        ('{"action": "le\nft"}', None),
        ('{"action": __import__("os")}', None),
        ('{"action": ' + "9" * 5_000 + "}", None),
        (DEEP, None),
        (DEEP_OBJECTS, None),
        ('{"action": "left"}' + " " * MAX_CHARACTERS, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_examples(text: str, answer: ParsedResponse | None) -> None:
    assert parse_response(text) == answer


@given(thoughts=st.text(), action=st.text())
def test_what_is_rendered_is_read_back(thoughts: str, action: str) -> None:
    if len(text := render_response(ParsedResponse(thoughts, action))) <= MAX_CHARACTERS:
        assert parse_response(text) == ParsedResponse(thoughts, action.strip())


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_no_text_at_all_makes_it_raise(text: str) -> None:
    parse_response(text)
    parse_response('{"action": ' + text)


def mutate(text: str, rng: random.Random) -> str:
    """One to four bytes-level accidents; bytes that are no UTF-8 any more are replaced as a tokenizer would."""
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randint(1, 6))
        match rng.randrange(5):
            case 0:
                data[at:at] = rng.choice(
                    [b'"', b"{", b"}", b"\\", b",", b":", b"NaN", b"1e999", bytes([rng.randrange(256)])]
                )
            case 1:
                del data[at:end]
            case 2:
                data[at:end] = bytes(rng.randrange(256) for _ in range(end - at))
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at:end]
    return data.decode(errors="replace")


def reference(text: str) -> ParsedResponse | None:
    """What strict JSON makes of a text that is one object and nothing else; raises ValueError where it is not one."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise LookupError
        return dict(pairs)

    def constant(_name: str) -> object:
        raise LookupError

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except LookupError:
        return None
    if not isinstance(value, dict):
        return None
    action, thoughts = value.get("action"), value.get("thoughts", "")
    if type(action) not in (str, int) or type(thoughts) is not str:
        return None
    return ParsedResponse(thoughts, str(action).strip())


def test_ten_thousand_mutated_answers_never_raise_and_agree_with_strict_json() -> None:
    rng = random.Random(0)
    valid = [
        '{"thoughts": "the red box is to the left", "action": "turn left"}',
        '{"thoughts": "target 4 current 1", "action": "+"}',
        '{"action": 12, "thoughts": "caf\\u00e9 ü"}',
        '```json\n{"thoughts": "", "action": "forward"}\n```',
    ]
    readable = strict = 0
    for _ in range(10_000):
        text = mutate(rng.choice(valid), rng)
        answer = parse_response(text)
        assert answer is None or (type(answer.action) is str and type(answer.thoughts) is str)
        readable += answer is not None
        try:
            expected = reference(text)
        except ValueError:
            continue  # not one JSON object by itself, where only the fallback applies
        strict += 1
        if text.strip().startswith("{"):
            assert answer == expected, text
    # The mutations must leave enough of both kinds for the comparison to mean something.
    assert 500 < readable < 9_500
    assert strict > 500
