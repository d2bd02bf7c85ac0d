"""A small benchmark, and runners whose answers are known."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness.options import Options
from benchmarks.harness.task import Message, Question, QuestionBenchmark, Request, Scored


class Sums(QuestionBenchmark):
    """Additions in two tasks, with a gray picture beside each."""

    name = "sums"
    title = "Sums"
    synthetic = True

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.count = options.limit or 7

    def identity(self) -> dict[str, Any]:
        return {"limit": self.count}

    def questions(self) -> Sequence[Question]:
        made = []
        for i in range(self.count):
            text = f"{i} + {i} ="
            picture = np.full((8, 8, 3), i, np.uint8)
            ask = functools.partial(tuple[Message, ...], (Message("user", (picture, text)),))
            made.append(Question(f"q{i}", "even" if i % 2 == 0 else "odd", (f"grey:{i}",), ask, {"sum": 2 * i}))
        return made

    def score(self, question: Question, text: str) -> Scored:
        read = text.strip() if text.strip().isdecimal() else None
        right = read is not None and int(read) == question.gold["sum"]
        return Scored(float(right), read, {"characters": len(text)})


class Told:
    """Answers by a function of the request, and counts how it was asked."""

    def __init__(self, say: Callable[[Request], str]) -> None:
        self.say = say
        self.batches: list[int] = []

    def answer(self, requests: Sequence[Request]) -> list[str]:
        self.batches.append(len(requests))
        return [self.say(request) for request in requests]


def adds(request: Request) -> str:
    """The right sum."""
    a, _, b, _ = request.messages[-1].text.split()
    return str(int(a) + int(b))
