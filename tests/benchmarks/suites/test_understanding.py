from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.options import Options
from benchmarks.harness.records import Records
from benchmarks.harness.task import BenchmarkDataError, Message, Request
from benchmarks.suites.understanding.benchmark import KINDS, SIZES, Understanding, seed_of
from benchmarks.suites.understanding.reader import read
from envs.base import EVALUATION_SEEDS, TRAINING_SEEDS
from envs.pictures import questions as pictures
from vldac.parsing import MAX_CHARACTERS

OPTIONS = ("red", "dark green", "blue")

# Written out: the text, what it names where letters were shown, what it names without.
READ: list[tuple[str, str | None, str | None]] = [
    # the project's JSON answer
    ('{"thoughts": "I see", "action": "blue"}', "blue", "blue"),
    ('{"action": " BLUE "}', "blue", "blue"),
    ('{"action": "dark  green"}', "dark green", "dark green"),
    ('```json\n{"thoughts": "A", "action": "red"}\n```', "red", "red"),
    ('{"thoughts": "", "action": "b"}', "dark green", None),
    ('{"action": "B) dark green"}', None, None),
    ('{"action": "purple"}', None, None),
    ('{"action": "red."}', None, None),
    ('{"action": ""}', None, None),
    # the whole text
    ("red", "red", "red"),
    ("  Red.\n", "red", "red"),
    ("DARK\ngreen", "dark green", "dark green"),
    ("red..", None, None),
    ("red!", None, None),
    ("it is red", None, None),
    ("red or blue", None, None),
    ("C", "blue", None),
    ("c", "blue", None),
    ("c.", "blue", None),
    ("D", None, None),
    # a letter at the beginning
    ("C)", "blue", None),
    ("C) blue", "blue", None),
    ("C. Blue.", "blue", None),
    ("C blue", "blue", None),
    ("C)\nbecause it looks so", "blue", None),
    ("\tC\n\nblue", "blue", None),
    ("C) because it looks so", "blue", None),
    ("A. The triangle is red.", "red", None),
    ("A red", "red", None),
    ("A red triangle", None, None),  # an article
    ("A blue", None, None),  # letter and words differ
    ("A. blue", None, None),
    ("A) or B)", None, None),
    ("A. Not B. but this", None, None),
    ("A)) red", None, None),
    ("A.) red", None, None),
    ("(A) red", None, None),
    ("A: red", None, None),
    ("a) red", None, None),
    ("AB", None, None),
    ("D) red", None, None),
    ("Answer: A", None, None),
    # nothing
    ("", None, None),
    ("   \n", None, None),
    (".", None, None),
    ("А", None, None),  # a Cyrillic letter
    ("réd", None, None),
    ("漢字 🙂", None, None),
    ("{", None, None),
    ("\0", None, None),
]


@pytest.mark.parametrize(("text", "lettered", "plain"), READ)
def test_reader(text: str, lettered: str | None, plain: str | None) -> None:
    assert read(text, OPTIONS, lettered=True) == lettered
    assert read(text, OPTIONS, lettered=False) == plain


def test_very_long_answers_are_not_read() -> None:
    assert read("C)" + " x" * ((MAX_CHARACTERS - 2) // 2), OPTIONS, lettered=True) == "blue"
    assert read("C) " + "x" * MAX_CHARACTERS, OPTIONS, lettered=True) is None
    assert read(" " * MAX_CHARACTERS + "red", OPTIONS, lettered=False) is None


def test_random_answers_raise_nothing_and_name_options_only() -> None:
    rng = random.Random(0)
    pieces = [
        "A",
        "B",
        "D",
        ")",
        ".",
        " ",
        "red",
        "blue",
        "dark green",
        "{",
        '"action":',
        '"red"',
        "}",
        "\n",
        "é",
        "\0",
    ]
    found = set()
    for _ in range(10_000):
        text = "".join(rng.choices(pieces, k=rng.randrange(8)))
        found |= {read(text, OPTIONS, lettered=lettered) for lettered in (True, False)}
    assert found == {None, *OPTIONS}


def benchmark(**options: Any) -> Understanding:
    return Understanding(Options(**options))


class Knows:
    """Answers by a function of the question."""

    def __init__(self, suite: Understanding, say: Any) -> None:
        self.questions = {shown(question.load()): question for question in suite.questions()}
        assert len(self.questions) == len(suite.questions())
        self.say = say

    def answer(self, requests: Sequence[Request]) -> list[str]:
        return [self.say(self.questions[shown(request.messages)]) for request in requests]


def shown(messages: Sequence[Message]) -> tuple[str, bytes]:
    (message,) = messages
    return message.text, message.images[0].tobytes()


def run_benchmark(suite: Understanding, runner: Any, directory: Path) -> dict[str, Any]:
    with Records(directory, suite.identity()) as records:
        suite.run(runner, records)
        return suite.summarize(list(records))


@pytest.mark.parametrize("style", ["full", "terse"])
def test_the_set(style: Any) -> None:
    suite = benchmark(style=style)
    questions = suite.questions()
    assert [question.task for question in questions] == [kind for kind in KINDS for _ in range(40)]
    assert len({question.id for question in questions}) == 200
    for question in questions[::7]:
        (message,) = question.load()
        picture, prompt = message.content
        assert isinstance(picture, np.ndarray)
        assert picture.shape == (*SIZES[style][::-1], 3)
        assert isinstance(prompt, str)
        assert all(option in prompt for option in question.gold["options"])
        assert ("\nA. " in prompt) == (style == "full")
        assert question.gold["answer"] in question.gold["options"]
        json.dumps(question.gold)
    assert tuple(pictures.KINDS) == KINDS


def test_the_set_is_the_same_whatever_ran_before() -> None:
    first, second = benchmark(style="terse", limit=6), benchmark(style="terse", limit=6, seed=5)
    before = [shown(question.load()) for question in first.questions()]
    assert [shown(question.load()) for question in reversed(second.questions())] == before[::-1]
    assert first.identity() == second.identity()


def test_the_short_set_is_the_beginning_of_the_full_one() -> None:
    short, full = benchmark(style="terse"), benchmark(style="terse", profile="full")
    gold = {question.id: question.gold for question in full.questions()}
    assert len(gold) == len({shown(question.load()) for question in full.questions()}) == 500
    assert all(gold[question.id] == question.gold for question in short.questions())
    assert short.identity()["digest"] != full.identity()["digest"]


def test_seeds_are_of_evaluation_and_all_different() -> None:
    seeds = [seed_of(kind, number) for kind in KINDS for number in range(4096)]
    assert len(set(seeds)) == len(seeds)
    assert all(seed in EVALUATION_SEEDS and seed not in TRAINING_SEEDS for seed in (min(seeds), max(seeds)))
    assert min(seeds) - EVALUATION_SEEDS.start >= 2**20


@pytest.mark.parametrize(
    ("style", "say"),
    [
        ("full", lambda q: "ABCD"[q.gold["options"].index(q.gold["answer"])]),
        ("full", lambda q: q.gold["answer"].capitalize() + "."),
        ("full", lambda q: json.dumps({"thoughts": "so", "action": q.gold["answer"]})),
        ("terse", lambda q: json.dumps({"thoughts": "so", "action": q.gold["answer"]})),
    ],
)
def test_who_knows_everything_scores_100(style: Any, say: Any, tmp_path: Path) -> None:
    suite = benchmark(style=style, limit=5)
    summary = run_benchmark(suite, Knows(suite, say), tmp_path)
    assert (summary["score"], summary["standard_error"], summary["count"]) == (100.0, 0.0, 25)
    chances = {kind: scores["metrics"]["chance"] for kind, scores in summary["tasks"].items()}
    third = pytest.approx(100 / 3)
    assert chances == {"count": 25.0, "color": 25.0, "relation": 50.0, "reading": 25.0, "order": third}
    assert summary["metrics"]["chance"] == pytest.approx((25 + 25 + 50 + 25 + 100 / 3) / 5)


def test_the_score_is_the_mean_over_kinds(tmp_path: Path) -> None:
    suite = benchmark(style="terse", limit=8)
    right = {"count": 8, "color": 4, "relation": 1, "reading": 0, "order": 6}

    def say(question: Any) -> str:
        number = int(question.id.rpartition("-")[2])
        wrong = next(option for option in question.gold["options"] if option != question.gold["answer"])
        return str(question.gold["answer"] if number < right[question.task] else wrong)

    summary = run_benchmark(suite, Knows(suite, say), tmp_path)
    assert {kind: scores["score"] for kind, scores in summary["tasks"].items()} == {
        kind: 100 * count / 8 for kind, count in right.items()
    }
    assert summary["score"] == pytest.approx(100 * sum(right.values()) / 40)
    p = np.array(list(right.values())) / 8
    assert summary["standard_error"] == pytest.approx(100 * np.sqrt((p * (1 - p) / 8).sum()) / 5)


def test_a_guess_scores_chance(tmp_path: Path) -> None:
    suite, rng = benchmark(style="terse", limit=50), random.Random(1)
    summary = run_benchmark(suite, Knows(suite, lambda q: rng.choice(q.gold["options"])), tmp_path)
    assert abs(summary["score"] - summary["metrics"]["chance"]) < 4 * summary["standard_error"]


def test_letters_mean_nothing_where_none_were_shown() -> None:
    suite = benchmark(style="terse", limit=1)
    for question in suite.questions():
        assert suite.score(question, "A").parsed is None


def test_what_cannot_be_benchmarked_is_said() -> None:
    with pytest.raises(BenchmarkDataError, match=r"no use for the data in somewhere; .*benchmarks.lmms_eval ") as error:
        benchmark(data=Path("somewhere"))
    assert "\n" not in str(error.value)
    with pytest.raises(BenchmarkDataError, match="must be from 1 to 4096"):
        benchmark(limit=4097)
    for limit in (0, -1):
        with pytest.raises(ValueError, match="should be greater than or equal to 1"):
            benchmark(limit=limit)
