"""What answers are worth, against the rules of both published programs written out."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.suites.vsi_bench.scoring import Parser, accuracy, first_word, mean_relative_accuracy, read_number


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("B", 1.0),
        ("b", 1.0),
        ("B.", 1.0),
        ("B...", 1.0),
        ("B. right", 1.0),
        ("B\n", 1.0),
        ("B because of the door", 1.0),
        ("", 0.0),
        (" B", 0.0),  # the first word is empty
        ("B.\n", 0.0),  # the period is not the last character
        ("B\nright", 0.0),  # a line break does not end a word
        ("B)", 0.0),
        ("(B)", 0.0),
        ("right", 0.0),
        ("The answer is B", 0.0),
        ("A", 0.0),
        ("Б", 0.0),
        ("B" * 70_000, 0.0),
    ],
)
def test_a_letter_is_the_whole_first_word(text: str, score: float) -> None:
    assert accuracy(text, "B") == score


@pytest.mark.parametrize(
    ("text", "original", "lmms_eval"),
    [
        ("3", 3.0, 3.0),
        ("3.5", 3.5, 3.5),
        ("3.", 3.0, 3.0),
        ("3 chairs", 3.0, 3.0),
        ("3\n", 3.0, 3.0),
        ("-2", -2.0, -2.0),
        ("3m", None, 3.0),
        ("1_000", 1000.0, 1.0),
        ("1e2", 100.0, 1.0),
        ("٣", 3.0, 3.0),
        ("½", None, None),
        (".5", 0.5, 5.0),
        ("There are 3 boxes", None, 3.0),
        ("room 2", None, 2.0),
        ("one apple, room 2", None, 1.0),
        ("2 rooms, one apple", 2.0, 2.0),
        ("Three", None, 3.0),
        ("twenty-one", None, 21.0),
        ("two hundred and five meters", None, 205.0),
        ("one thousand two hundred and thirty-four", None, 1234.0),
        ("thousand", None, 1000.0),
        ("hundred hundred", None, 10000.0),
        ("one, two, three", None, 6.0),
        ("someone", None, None),
        ("and", None, None),
        ("", None, None),
        ("   ", None, None),
        ("no idea", None, None),
        ("hundred " * 200, None, None),  # larger than any float
    ],
)
def test_what_number_an_answer_names(text: str, original: float | None, lmms_eval: float | None) -> None:
    assert read_number(text, "original") == original
    assert read_number(text, "lmms-eval") == lmms_eval


def test_infinity_and_nan_are_worth_nothing() -> None:
    for text in ("nan", "inf", "-inf", "1e400"):
        assert read_number(text, "original") is not None
        assert mean_relative_accuracy(read_number(text, "original"), 4.0) == 0.0


@pytest.mark.parametrize(
    ("prediction", "gold", "score"),
    [
        (4.0, 4.0, 1.0),
        (None, 4.0, 0.0),
        (0.0, 4.0, 0.0),
        (3.0, 4.0, 0.6),  # an error of .25: theta .50, .55, .60, .65, .70, .75
        (5.0, 4.0, 0.6),
        (2.0, 4.0, 0.1),  # .5 is allowed at theta .50 alone
        (6.1, 4.0, 0.0),
        (-4.0, 4.0, 0.0),
        (1.31, 1.0, 0.4),
        (104.0, 100.0, 1.0),
        (106.0, 100.0, 0.9),
    ],
)
def test_mean_relative_accuracy(prediction: float | None, gold: float, score: float) -> None:
    assert mean_relative_accuracy(prediction, gold) == pytest.approx(score, abs=1e-12)


@given(st.integers(0, 3000), st.integers(1, 1000))
def test_mean_relative_accuracy_is_the_share_of_thresholds(prediction: int, gold: int) -> None:
    """Exactly, but at thresholds themselves, where the float arithmetic of the published program decides."""
    error = Fraction(abs(prediction - gold), gold)
    thresholds = [1 - Fraction(theta, 100) for theta in range(50, 100, 5)]
    if error not in thresholds:
        share = sum(error <= threshold for threshold in thresholds) / 10
        assert mean_relative_accuracy(float(prediction), float(gold)) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "gold", "score"),
    [
        (110, 100, 0.9),
        (115, 100, 0.8),
        (120, 100, 0.6),
        (135, 100, 0.4),
        (1.35, 1, 0.3),
        (145, 100, 0.1),
        (5.8, 4, 0.2),
    ],
)
def test_at_a_threshold_float_arithmetic_decides(prediction: float, gold: float, score: float) -> None:
    """By the rule 20% off would be worth .7 and 45% off .2; the numbers are those that the published program prints."""
    assert mean_relative_accuracy(float(prediction), float(gold)) == pytest.approx(score, abs=1e-12)


@given(st.text(), st.sampled_from(["original", "lmms-eval"]))
def test_any_text_is_worth_something(text: str, parser: Parser) -> None:
    number = read_number(text, parser)
    score = mean_relative_accuracy(number, 4.0)
    assert 0.0 <= score <= 1.0
    assert score == 0.0 or (number is not None and math.isfinite(number))
    assert accuracy(text, "A") == float(first_word(text).lower() == "a")
