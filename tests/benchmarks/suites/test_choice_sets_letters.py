"""Reading a letter from an answer, against the rules of lmms-eval written out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.suites.choice_sets.letters import extract_letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("", ""),
        ("   \n", ""),
        ("...", ""),
        ("b", ""),
        ("no idea", ""),
        ("E", ""),  # not among the choices
        ("B", "B"),
        ("B.", "B"),
        ('"B"', "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B) the left one", "B"),
        ("B: the left one", "B"),
        ("The left one, B", "B"),
        ("A or B", "A"),  # the start counts more than the end
        ("Either A. or B. or so", "B"),  # of two that count the same, the last one
        ("Either (A) or B. or so", "A"),  # parentheses count more than a period
        ("Either A. or B: or so", "A"),
        ("Either A: or B) or so", "A"),
        ("Either A) or B or so", "A"),
        ("I choose B because (A) is wrong here", "A"),  # the last letter after a phrase, whatever is meant by it
        ("I choose B because (A) and B differ", "A"),  # of each letter the first mention after it
        ("The answer is B", "B"),
        ("the best option is C, not so much D here", "D"),
        ("答案是C 对", "C"),
        ("The answer is And", "A"),
        ("Because", "B"),  # the bare letter, for want of anything better
        ("CAB driver", "B"),  # "B " counts, "C" begins a word
        ("xAyBz", "B"),
        ("A" * 70_000, "A"),
        ("A," * 30_000, "A"),
    ],
)
def test_letters(text: str, letter: str) -> None:
    assert extract_letter(text) == letter


def test_other_choices() -> None:
    assert extract_letter("E", "ABCDE") == "E"
    assert extract_letter("(F) or (A)", "ABCDEF") == "A"


@given(st.text(alphabet="ABCDEabc ().,:\nışthe answer is答案是"))
def test_any_text_gives_a_choice_or_nothing(text: str) -> None:
    letter = extract_letter(text)
    assert letter in ("", "A", "B", "C", "D")
    assert (letter == "") == (not set(text) & set("ABCD"))
