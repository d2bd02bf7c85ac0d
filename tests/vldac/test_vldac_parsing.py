from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vldac.parsing import MAX_CHARACTERS, ParsedResponse, action_start, parse_response, render_response

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
        # Halves of a character are no text, which a tokenizer or a server could not take; whole ones are.
        ('{"thoughts": "\\ud83d\\ude00", "action": "+"}', ParsedResponse("\U0001f600", "+")),
        ('{"thoughts": "a \\ud83d b", "action": "left"}', None),
        ('{"thoughts": "", "action": "\\ude00"}', None),
        ('```json\n{"action": "left"}\n```', ParsedResponse("", "left")),
        ('Sure! {"action": "left"} Good luck.', ParsedResponse("", "left")),
        ('{"action": "left"} {"action": "right"}', ParsedResponse("", "left")),
        ('{"action": ""}', ParsedResponse("", "")),
        # A text that begins with an answer is that answer, whatever follows.
        ('\n {"action": "left"} or ```{"action": "right"}```', ParsedResponse("", "left")),
        ('{"action": "left"} {"action": "right"', ParsedResponse("", "left")),
        # Otherwise the last one counts.
        ('Hm. <think>Red?</think>\n{"action": "left"}', ParsedResponse("", "left")),
        ('{"plan": ["up"]}\n{"action": "left"}', ParsedResponse("", "left")),
        ('The set {a, b} and f(x) = {x}.\n```json\n{"action": "left"}\n```\nDone {1}.', ParsedResponse("", "left")),
        ('The set {"a", "b"} has {} in it. {"action": "left"}', ParsedResponse("", "left")),
        ('{x {"action": "left"}', ParsedResponse("", "left")),
        ('Either {"action": "up"} or {"action": null} {"action": "left", "action": "left"}', ParsedResponse("", "up")),
        ('{"action": "up", "n": NaN} {"action": "left"}', ParsedResponse("", "left")),
        ('{"thoughts": "\\d", "action": "up"} Again: {"action": "left"}', ParsedResponse("", "left")),
        # Marks of thinking around what comes first.
        ('<think>\nRed is left.\n</think>\n\n{"action": "left"}', ParsedResponse("Red is left.", "left")),
        ('\n<think></think>{"thoughts": "t", "action": "left"}', ParsedResponse("t", "left")),
        ('<think>{"action": "up"}?</think>{"thoughts": "t", "action": 4}', ParsedResponse('{"action": "up"}?\nt', "4")),
        ('<think>a</think>{"action": "left"} {"action": "up"}', ParsedResponse("a", "left")),
        ('<think>a</think>```json\n{"action": "up"} {"action": "left"}```', ParsedResponse("a", "left")),
        ('<think>{"action": "up"}', None),
        ('<think>{"action": "up"}</think>', None),
        ('<think>{"thoughts": "</think>{"action": "up"}', ParsedResponse('{"thoughts": "', "up")),
        ('<think>a</think>{"thoughts": "</think>", "action": "up"}', None),
        ('<think><think>a</think>{"action": "up"}', None),
        ('<think>a</think><think>b</think>{"action": "up"}', None),
        # An object inside of another one is no answer, and nothing is read out of a broken one.
        ('So: {"plan": {"action": "left"}}', None),
        ('{"thoughts": "x", "plan": [{"action": "left"}, {"action": "up"}], "action": "ri', None),
        ('{"thoughts": "\\d", "plan": [{"action": "left"}]}', None),
        ('{"plan": [{"action": "left"}],}', None),
        ('{"plan": {"action": "left"}, "n": NaN}', None),
        ('{"thoughts": "\\d", "plan": [{"action": "left"}], "action": "ri', None),
        ('{"thoughts": "{\\"action\\": \\"left\\"}"', None),
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


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ('{"action": "left"}', '"action": "left"}'),
        ('{"thoughts": "the \\"action\\": up", "action": "left"}', '"action": "left"}'),
        ('```json\n{ "thoughts" : "x" , "n": [{"action": 1}],\n\t"action" :3 } end', '"action" :3 } end'),
        ('<think>{"action": "up"}</think>{"action": "left"}', '"action": "left"}'),
        ('{"action": "left", "thoughts": "late"}', '"action": "left", "thoughts": "late"}'),
        ('{"\\u0061ction": "left"}', '"\\u0061ction": "left"}'),
    ],
)
def test_the_action_begins_at_its_own_key(text: str, rest: str) -> None:
    start = action_start(text)
    assert start is not None
    assert text[start:] == rest


HOSTILE = [
    "{",
    '{"',
    '{"a',
    '{"a":',
    '{"":x',
    '{"":x}',
    '{ "',
    "{ ",
    "{}",
    '{"\\',
    '{"\\"',
    '\\"',
    '{"a":[',
    '{"a":NaN}',
    '{"action":{',
    '{"action":1}',
    '{"a":"\\x"}',
    '"{',
    '{"a":"\n',
    '{"a":' + "9" * 5_000 + "}",
]


@pytest.mark.parametrize("part", HOSTILE, ids=lambda part: repr(part)[:20])
@pytest.mark.parametrize("before", ["", "x", '{"', '<think>{"a": "'])
def test_no_text_takes_long(part: str, before: str) -> None:
    # One call reads a text of the greatest length in less than 0.1 s; what grows with its square takes minutes.
    text = (before + part * MAX_CHARACTERS)[:MAX_CHARACTERS]
    start = time.process_time()
    parse_response(text)
    action_start(text)
    parse_response(text + "}")
    parse_response(part * (1 + 1_000_000 // len(part)))
    assert time.process_time() - start < 2.0


OBJECTS = st.sampled_from(['{"action": "left"}', '{"thoughts": "a", "action": 3}', '{"plan": 1}', '{"action": null}'])
PROSE = st.text(st.characters(exclude_characters='{}"', codec="utf-8"), min_size=1, max_size=8).filter(str.strip)


@given(PROSE, st.lists(st.tuples(OBJECTS, PROSE), max_size=6))
def test_after_prose_the_last_answer_counts(first: str, rest: list[tuple[str, str]]) -> None:
    text = first + "".join(thing + prose for thing, prose in rest)
    answers = [parse_response(thing) for thing, _ in rest]
    assert parse_response(text) == next((answer for answer in reversed(answers) if answer is not None), None)
    start = action_start(text)
    if start is not None:
        assert start == max(text.rfind('"action": "left"'), text.rfind('"action": 3'))


@given(OBJECTS, st.text(max_size=40))
def test_what_begins_with_an_answer_is_that_answer(thing: str, rest: str) -> None:
    if (answer := parse_response(thing)) is not None:
        assert parse_response(thing + rest) == answer
        assert action_start(thing + rest) == action_start(thing)


@given(st.text(max_size=60))
def test_the_action_of_what_cannot_be_read_begins_nowhere(text: str) -> None:
    assert (action_start(text) is None) == (parse_response(text) is None)


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_action_of_a_rendered_response_follows_its_thoughts(thoughts: str, action: str) -> None:
    text = render_response(ParsedResponse(thoughts, action))
    start = action_start(text)
    assert start is not None
    assert json.loads("{" + text[start:]) == {"action": action}
