"""What an answer to a VSI-Bench question is worth: accuracy by option letter, or mean relative accuracy of a number.

Sources: vision-x-nyu/thinking-in-space, `lmms_eval/tasks/vsibench/utils.py` ("original"), and the file of the same name
in EvolvingLMMs-Lab/lmms-eval 0.7 ("lmms-eval"), which reads numbers from whole sentences. Scores equal theirs for
every answer, and where they are surprising a comment says so.
"""

from __future__ import annotations

import re

import numpy as np

from benchmarks.harness.options import Parser

MULTIPLE_CHOICE = (
    "object_rel_direction_easy",
    "object_rel_direction_medium",
    "object_rel_direction_hard",
    "object_rel_distance",
    "route_planning",
    "obj_appearance_order",
)
NUMERIC = ("object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation")

#: Relative errors at which an answer still counts: 1 - theta for theta in .50, .55, ..., .95.
_TOLERANCES = 1 - np.linspace(0.5, 0.95, 10)

_NUMERAL = re.compile(r"-?\d+(?:\.\d+)?")
_WORD = re.compile("[a-z]+")
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES = (
    {word: value for value, word in enumerate(_UNITS.split())}
    | {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
    | {"hundred": 100, "thousand": 1000}
)


def first_word(text: str) -> str:
    """The text before the first space, without its last periods.

    Only a space ends a word: after "A.\\n" the period stays, and a text that begins with a space has an empty first
    word. Both count as wrong answers in either program.
    """
    return text.partition(" ")[0].rstrip(".").strip()


def accuracy(text: str, letter: str) -> float:
    """1 if the first word of the answer is the letter, whatever its case, else 0."""
    return 1.0 if first_word(text).lower() == letter.lower() else 0.0


def read_number(text: str, parser: Parser) -> float | None:
    """The number that an answer names, or None.

    Args:
        text: the answer.
        parser: "original" takes the first word alone, as Python's `float` reads it ("nan", "inf" and "1_000" are
            numbers); "lmms-eval" the first numeral or the first run of number words of the whole text.
    """
    if parser == "lmms-eval":
        return _first_number(text.strip().lower())
    try:
        return float(first_word(text))
    except ValueError:
        return None


def mean_relative_accuracy(prediction: float | None, gold: float) -> float:
    """The share of theta in {.50, .55, ..., .95} for which |prediction - gold| / gold <= 1 - theta.

    Args:
        prediction: None is worth 0, and so are infinity and NaN.
        gold: positive.
    """
    if prediction is None:
        return 0.0
    return float((abs(prediction - gold) / gold <= _TOLERANCES).mean())


def _first_number(text: str) -> float | None:
    numeral = _NUMERAL.search(text)
    run: list[int] = []
    start = -1
    for word in _WORD.finditer(text):
        # A hyphen or a comma does not end a run: "twenty-one" is 21, and "one, two" is 3.
        if word[0] in _VALUES:
            start = start if run else word.start()
            run.append(_VALUES[word[0]])
        elif run and word[0] != "and":
            break
    if numeral is not None and (not run or numeral.start() < start):
        return float(numeral[0])
    return _value(run) if run else None


def _value(run: list[int]) -> float | None:
    """What number words add up to: [2, 100, 21] is 221."""
    total = current = 0
    for value in run:
        if value == 100:
            current = max(current, 1) * 100
        elif value == 1000:
            total, current = total + max(current, 1) * 1000, 0
        else:
            current += value
    try:
        return float(total + current)
    except OverflowError:  # "hundred" 155 times over; lmms-eval stops with this error
        return None
