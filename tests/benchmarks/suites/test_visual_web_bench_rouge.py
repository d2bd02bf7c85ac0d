from __future__ import annotations

import random
import sys
from functools import partial

import pytest
from rouge import Rouge as Package

from benchmarks.suites.visual_web_bench.rouge import rouge, rouge_1


def f(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall + 1e-8)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "one", "two", "longest"),
    [
        # {the, cat} of three words; "the cat" of two pairs; "the cat" of three words
        ("the cat sat", "the cat ate", f(2 / 3, 2 / 3), f(1 / 2, 1 / 2), f(2 / 3, 2 / 3)),
        # the order counts for pairs and for the subsequence, which is "a" or "b"
        ("b a", "a b", f(1, 1), 0.0, f(1 / 2, 1 / 2)),
        # words and pairs count once: {the} of {the}; no pair in the reference
        ("the the the", "the", f(1, 1), 0.0, f(1, 1)),
        # pairs span sentences (b c); subsequences do not: {b} with the first sentence, {c} with the second
        ("a b. c d", "b c", f(2 / 4, 1), f(1 / 3, 1), f(2 / 4, 2 / 2)),
        # two longest subsequences, "b a" and "a a": the first one has two different words
        ("b a a", "a b a", f(1, 1), f(1 / 2, 1 / 2), f(1, 1)),
        # nothing is lower-cased and no punctuation but the full stop is dropped
        ("Lamp, red", "lamp red.", f(1 / 2, 1 / 2), 0.0, f(1 / 2, 1 / 2)),
        # a space is a sentence of one empty word
        (" ", "a b", 0.0, 0.0, 0.0),
        # ... which the reference can have too: ["a"], [""]
        (" ", "a. ", f(1, 1 / 2), 0.0, f(1, 1 / 2)),
        # 3.5 is two sentences
        ("3.5", "3 5", f(1, 1), f(1, 1), f(1, 1)),
        ("\u00e9t\u00e9 \u5e97\u00a0x", "\u5e97 x", f(2 / 3, 1), f(1 / 2, 1), f(2 / 3, 1)),
    ],
)
def test_scores_derived_by_hand(hypothesis: str, reference: str, one: float, two: float, longest: float) -> None:
    assert rouge(hypothesis, reference) == pytest.approx((one, two, longest), abs=1e-12)
    assert rouge_1(hypothesis, reference) == pytest.approx(one, abs=1e-12)


@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a"), ("...", "a"), ("a", ""), ("a", ".")])
def test_a_text_without_a_sentence_has_no_score(hypothesis: str, reference: str) -> None:
    assert rouge(hypothesis, reference) is None
    assert rouge_1(hypothesis, reference) is None
    with pytest.raises(ValueError, match="empty"):
        Package().get_scores([hypothesis], [reference])


def test_the_numbers_are_those_of_the_package() -> None:
    rng = random.Random(0)
    words = ["a", "b", "c", "d", "A", "a.", ".", "x.y", "", "\u00e9", "\u5e97", "\n", "\u00a0", ","]
    for _ in range(2000):
        hypothesis, reference = (" ".join(rng.choices(words, k=rng.randrange(1, 15))) for _ in range(2))
        ours = rouge(hypothesis, reference)
        if ours is None:
            with pytest.raises(ValueError, match="empty"):
                Package().get_scores([hypothesis], [reference])
            continue
        theirs = Package().get_scores([hypothesis], [reference])[0]
        assert ours == tuple(theirs[name]["f"] for name in ("rouge-1", "rouge-2", "rouge-l"))
        assert ours.rouge_1 == rouge_1(hypothesis, reference)


def test_a_long_answer_has_a_score_where_the_package_gives_up(request: pytest.FixtureRequest) -> None:
    hypothesis, reference = " ".join(str(number) for number in range(1100)), "x 7 y"
    request.addfinalizer(partial(sys.setrecursionlimit, sys.getrecursionlimit()))
    sys.setrecursionlimit(1000)  # the interpreter's default; libraries that other tests import may have raised it
    with pytest.raises(RecursionError):
        Package().get_scores([hypothesis], [reference])
    assert rouge(hypothesis, reference) == pytest.approx((f(1 / 1100, 1 / 3), 0, f(1 / 1100, 1 / 3)), abs=1e-12)
