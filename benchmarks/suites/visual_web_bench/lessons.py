"""Lessons in the form of the synthetic VisualWebBench, on websites that the benchmark never shows.

They share with it what a language is: the ten kinds of website with their links, and what each link leads to. Names,
headings, texts, descriptions, cards, numbers and looks are their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from benchmarks.harness.options import Style
from benchmarks.suites.visual_web_bench import synthetic
from benchmarks.suites.visual_web_bench.example import CHOICE_TASKS, LETTERS, WEBQA, Example
from benchmarks.suites.visual_web_bench.lesson_words import draw_words
from benchmarks.suites.visual_web_bench.page import Page, draw, label_box, lay_out
from benchmarks.suites.visual_web_bench.prompts import prompt as text_of
from benchmarks.suites.visual_web_bench.sites import Site, make_site
from envs.base import Mark
from vldac import examples as taught
from vldac.models.conversation import Message


class WebLessons:
    """Seven questions about each website, one of each task, with the words of the benchmark.

    Where a letter is asked for, the thoughts name the element that it stands for, or that was clicked.

    Args:
        prompt: style of the prompts.
        width: of a page in pixels.
        height: of a page in pixels.
    """

    def __init__(self, *, prompt: Style, width: int = 448, height: int = 336) -> None:
        self.style, self.size = prompt, (width, height)

    def examples(self, seed: int) -> Iterator[taught.Example]:
        """See `vldac.examples.Lessons`."""
        for number in count():
            draws = random.Random(f"lessons {seed} {number}")  # which no number seeds alike
            site = make_site(draw_words(draws), draws)
            for task, fields in synthetic.questions_about(site, draws, *self.size):
                yield self._example(site, task, fields)

    def _example(self, site: Site, task: str, fields: dict[str, Any]) -> taught.Example:
        page = lay_out(site, *self.size)
        boxed, labels = fields.pop("boxed", None), fields.pop("labels", None) or {}
        picture = draw(page, boxed, labels)
        example = Example(f"lesson/{task}", task, site.name, lambda: picture, **fields)
        answer, thoughts = example.answer, ""
        if task in CHOICE_TASKS:
            assert isinstance(answer, int)
            answer = LETTERS[answer]
            thoughts = boxed or next(name for name, letter in labels.items() if letter == answer)
        elif task == WEBQA:
            assert isinstance(answer, tuple)
            answer = answer[0]
        assert isinstance(answer, str)
        messages = (Message("user", (picture, text_of(example, self.style))),)
        return taught.Example.of(messages, thoughts, (answer,), tuple(_marks(site, page, boxed, labels)))


def _marks(site: Site, page: Page, boxed: str | None, labels: Mapping[str, str]) -> Iterator[Mark]:
    """The words of links and of the heading, the letters of labels, and the red box."""

    def middle(box: tuple[int, int, int, int]) -> tuple[float, float]:
        return (box[0] + box[2]) / 2 / page.width, (box[1] + box[3]) / 2 / page.height

    for link in site.links:
        box = left, top, right, _ = page.boxes[link.label]
        if link.kind == "card":  # whose label is its title, below a strip of color
            box = left, top + 2 * page.unit, (left + right) // 2, top + round(3.3 * page.unit)
        yield Mark(link.label, *middle(box))
    left, top, right, bottom = page.boxes["heading"]
    words, at = site.heading.split(), 0
    if bottom - top < 3.5 * page.unit:  # a single line, in which words lie about as far apart as their letters
        for word in words:
            share = (at + len(word) / 2) / len(site.heading)
            yield Mark(word, (left + share * (right - left)) / page.width, (top + bottom) / 2 / page.height)
            at += len(word) + 1
    for name, letter in labels.items():
        yield Mark(letter, *middle(label_box(page, name)))
    if boxed:
        yield Mark("box", *middle(page.boxes[boxed]))
