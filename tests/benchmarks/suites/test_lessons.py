"""Lessons ask as the benchmarks do, and never what the benchmarks ask."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.task import Message
from benchmarks.suites.balrog.agents import make_agent
from benchmarks.suites.balrog.lessons import DESCRIPTIONS, FIRST_SEED, BalrogLessons
from benchmarks.suites.balrog.play import Player
from benchmarks.suites.balrog.suite import BalrogOptions
from benchmarks.suites.balrog.tasks import ENVIRONMENTS, first_seed, make, missing_packages, plan
from benchmarks.suites.visual_web_bench import sites
from benchmarks.suites.visual_web_bench.benchmark import VisualWebBench
from benchmarks.suites.visual_web_bench.lesson_words import draw_words
from benchmarks.suites.visual_web_bench.lessons import WebLessons
from benchmarks.suites.visual_web_bench.page import draw, lay_out
from benchmarks.suites.visual_web_bench.site_words import WORDS
from benchmarks.suites.visual_web_bench.suite import VisualWebBenchOptions
from benchmarks.suites.vsi_bench import lessons as vsi_lessons
from benchmarks.suites.vsi_bench import questions as vsi_questions
from benchmarks.suites.vsi_bench.benchmark import VSIBench
from benchmarks.suites.vsi_bench.lessons import VSILessons
from benchmarks.suites.vsi_bench.questions import scene_items
from benchmarks.suites.vsi_bench.renderer import render
from benchmarks.suites.vsi_bench.suite import VSIBenchOptions
from benchmarks.suites.vsi_bench.visibility import LEAST_FRAMES, sightings
from vldac.examples import Example
from vldac.utils.errors import UserError

TERSE: dict[str, Any] = {"style": "terse", "profile": "short"}


def form(messages: Iterable[Message], names: str) -> tuple[Any, ...]:
    """A conversation without what differs from question to question: names by a pattern, numbers."""
    return tuple(
        (
            m.role,
            *(re.sub(rf"{names}|[\d.]*\d", "*", part) if isinstance(part, str) else part.shape for part in m.content),
        )
        for m in messages
    )


def taught(lessons: Any, count: int, seed: int = 0) -> list[Example]:
    return list(islice(lessons.examples(seed), count))


def test_rooms_of_lessons_are_asked_about_as_those_of_the_benchmark() -> None:
    names = r"\b(red|green|blue|purple|yellow) (box|ball)\b"
    options = r"(?s:(?<=Options:\n).*(?=\nanswer))"
    asked = {form(q.load(), f"{names}|{options}") for q in VSIBench(VSIBenchOptions(**TERSE, limit=1)).questions()}
    lessons = taught(VSILessons(prompt="terse"), 10)
    assert {form(example.messages, f"{names}|{options}") for example in lessons} == asked
    assert len(asked) == 10


def test_no_room_of_a_lesson_is_in_the_benchmark() -> None:
    exam = [scene_items(index) for index in range(12)]
    rooms = {(scene.width, scene.depth, scene.things) for scene, _ in exam}
    texts = {(item.question, item.options, item.ground_truth) for _, items in exam for item in items}
    # The same seed and index as the benchmark's own: what they are drawn from begins with another number.
    assert vsi_lessons.ROOT != vsi_questions._SEED
    for index in range(6):
        scene, items = scene_items(index, (vsi_lessons.ROOT, vsi_questions._SEED), vsi_lessons.SIDES)
        assert (scene.width, scene.depth, scene.things) not in rooms
        assert not {(i.question, i.options, i.ground_truth) for i in items if len(set(i.options)) == 4} & texts


def test_the_thoughts_of_a_room_follow_from_its_frames() -> None:
    scene, items = scene_items(0, (vsi_lessons.ROOT, 0), vsi_lessons.SIDES)
    frames = render(scene, LEAST_FRAMES, 128, 96)
    for number, frame in enumerate(frames):
        for thing, x, y in sightings(scene, number / LEAST_FRAMES):
            pixel = frame[int(y * 96), int(x * 128)].astype(int)
            shown = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}.get(thing.color)
            if shown is not None:  # purple has some green
                assert ((pixel > 60) == np.array(shown, bool)).all(), (thing, pixel)
    order, lesson = next(
        (item, lesson)
        for item, lesson in zip(items, taught(VSILessons(prompt="terse"), 10), strict=True)
        if item.question_type == "obj_appearance_order"
    )
    facts, _, right = lesson.description.partition(": ")
    assert f"{order.ground_truth}. {right}" in order.options
    first = {name: int(frame) for name, frame in re.findall(r"(\w+ \w+) (\d)", facts)}
    assert sorted(right.split(", "), key=first.__getitem__) == right.split(", ")
    assert facts.startswith("turn left" if scene.turn > 0 else "turn right")


def test_pages_of_lessons_are_asked_about_as_those_of_the_benchmark() -> None:
    names = r'(?<=")[^"]*(?=")|(?<=: )(?!link|button|card).*(?=\?)|(?<=\) ).*?(?=( \([B-H]\)|$))'
    benchmark = VisualWebBench(VisualWebBenchOptions(**TERSE, limit=30))
    asked = {form(question.load(), names) for question in benchmark.questions()}
    given = {form(example.messages, names) for example in taught(WebLessons(prompt="terse"), 7 * 80)}
    assert asked <= given  # which have the questions of all ten kinds of website
    assert len(given) <= 28  # twenty of webqa, three of element_ground, and one of each other task


def test_no_page_of_a_lesson_is_in_the_benchmark() -> None:
    exam = {field: {getattr(words, field) for words in WORDS} for field in ("name", "heading", "text", "description")}
    cards = {card for words in WORDS for card in words.cards}
    drawn = [draw_words(random.Random(number)) for number in range(3000)]
    for field, known in exam.items():
        assert not {getattr(words, field) for words in drawn} & known, field
    assert not {card for words in drawn for card in words.cards} & cards
    assert len({words.heading for words in drawn}) > 2500
    pages = {draw(lay_out(site, 448, 336)).tobytes() for site in sites.sites()}
    assert not {example.messages[0].images[0].tobytes() for example in taught(WebLessons(prompt="terse"), 14)} & pages


def test_the_marks_of_a_page_are_where_it_shows_them() -> None:
    for example in taught(WebLessons(prompt="terse"), 7, seed=1):
        letters = [mark for mark in example.marks if mark.name in set("ABCDEFGH")]
        picture = example.messages[0].images[0]
        for mark in letters:
            x, y = int(mark.x * 448), int(mark.y * 336)
            patch = picture[y - 6 : y + 7, x - 6 : x + 7]
            assert patch.min() == 0  # a white letter on black
            assert patch.max() > 200
        if letters:
            assert len(letters) == 8
            named = next(mark for mark in example.marks if mark.name == example.description)
            assert example.actions[0] == min(letters, key=lambda m: abs(m.y - named.y) + abs(m.x - named.x)).name


def test_balrog_lessons_begin_where_the_benchmark_ends() -> None:
    tasks = [(name, task) for name in ENVIRONMENTS for task in ENVIRONMENTS[name].tasks]
    assert all(first_seed(seed, *task) < 2**31 for task in tasks for seed in (0, 1, 2**31 - 1))
    last = max(episode.seed for episode in plan(tuple(ENVIRONMENTS), "full", None, 0))
    assert last < FIRST_SEED == 2**31


@pytest.mark.parametrize("name", ["babyai", "minihack"])
def test_balrog_lessons_ask_as_the_benchmark_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing_packages(name):
        pytest.skip(f"{name} is not installed")
    seeds: list[int] = []
    cls = type(make(name, ENVIRONMENTS[name].short_tasks[0]))
    reset = cls.reset

    def noted(self: Any, seed: int) -> Any:
        seeds.append(seed)
        return reset(self, seed)

    monkeypatch.setattr(cls, "reset", noted)
    lessons = taught(BalrogLessons(prompt="terse", environments=(name,)), 30)
    assert len(set(seeds)) > 1
    assert min(seeds) >= FIRST_SEED
    for example in lessons:
        assert example.description in example.observation["prompt"]
        assert example.description
        assert f"Actions: {', '.join(example.actions)}" in example.observation["prompt"]
    (episode,) = plan([name], "short", None, 0)[:1]
    options = BalrogOptions(style="terse")
    player = Player(
        episode,
        make(name, episode.task),
        lambda environment: make_agent(options.agent, environment, options.style),
        32,
    )
    text = r"(?s:(?<=mission: ).*?(?=\.\n)|(?<=Observation:\n).*(?=\nImage))"
    asked = form(player.ask().messages, text)
    assert asked in [form(example.messages, text) for example in lessons]


def test_games_without_lessons_are_named() -> None:
    with pytest.raises(UserError, match="textworld has no lessons; choose from babyai"):
        BalrogLessons(prompt="terse", environments=("textworld",))
    assert set(DESCRIPTIONS) < set(ENVIRONMENTS)
