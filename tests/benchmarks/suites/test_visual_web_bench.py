from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.records import Record, Records
from benchmarks.harness.task import BenchmarkDataError, Question, Request
from benchmarks.suites.visual_web_bench.benchmark import VisualWebBench
from benchmarks.suites.visual_web_bench.example import CHOICE_TASKS, LETTERS, TASKS
from benchmarks.suites.visual_web_bench.page import PixelBox, _length, _Line, draw, lay_out
from benchmarks.suites.visual_web_bench.sites import sites
from benchmarks.suites.visual_web_bench.suite import VisualWebBenchOptions
from benchmarks.suites.visual_web_bench.synthetic import examples

SIZES = [(448, 336), (1280, 720)]
RED = (255, 0, 0)


class Known:
    """Answers from a list, in the order of the questions."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = iter(answers)

    def answer(self, requests: Sequence[Request]) -> list[str]:
        return [next(self.answers) for _ in requests]


def gold(question: Question) -> str:
    answer = question.gold["answer"]
    return LETTERS[answer] if isinstance(answer, int) else answer[0] if isinstance(answer, tuple) else answer


def run_benchmark(benchmark: VisualWebBench, answers: Sequence[str], directory: Path) -> dict[str, Any]:
    with Records(directory, benchmark.identity()) as records:
        benchmark.run(Known(answers), records)
        return benchmark.summarize(list(records))


@pytest.mark.parametrize("parser", ["original", "lmms-eval"])
def test_an_expert_has_everything_right_and_silence_nothing(parser: Any, tmp_path: Path) -> None:
    benchmark = VisualWebBench(VisualWebBenchOptions(parser=parser))
    summary = run_benchmark(benchmark, [gold(question) for question in benchmark.questions()], tmp_path / "expert")
    assert list(summary["tasks"]) == list(TASKS)
    # ROUGE of equal texts is 1 - 5e-9; ROUGE-2 of a text of one word is 0
    assert summary["score"] == pytest.approx(100, abs=1e-5)
    assert summary["count"] == 42
    for task, scores in summary["tasks"].items():
        assert (scores["score"], scores["count"]) == (pytest.approx(100, abs=1e-5), 6)
        headline = "accuracy" if task in CHOICE_TASKS else "f1" if task == "webqa" else "rouge_l"
        assert scores["metrics"][headline]["score"] == scores["score"]
    assert set(summary["tasks"]["web_caption"]["metrics"]) == {"rouge_1", "rouge_2", "rouge_l"}
    silent = run_benchmark(benchmark, [""] * 42, tmp_path / "silent")
    assert (silent["score"], silent["standard_error"]) == (0.0, 0.0)


def test_a_random_choice_has_what_chance_gives(tmp_path: Path) -> None:
    benchmark, rng = VisualWebBench(VisualWebBenchOptions(profile="full")), random.Random(0)
    right = [
        benchmark.score(question, rng.choice(LETTERS)).score
        for question in benchmark.questions()
        if question.task in CHOICE_TASKS
        for _ in range(40)
    ]
    # 3 * 30 * 40 choices among eight: 12.5% with a standard error of 0.55
    assert 100 * sum(right) / len(right) == pytest.approx(12.5, abs=2.2)


def test_no_letter_is_right_much_more_often_than_another() -> None:
    answers = [example.answer for example in examples(448, 336, 30) if example.task in CHOICE_TASKS]
    counts = [answers.count(letter) for letter in range(8)]
    assert sum(counts) == 90
    assert all(4 <= count <= 20 for count in counts)  # binomial, 11.25 +- 3.1


def test_the_profile_and_the_parser_decide_size_and_length() -> None:
    short, full = (
        VisualWebBench(VisualWebBenchOptions()),
        VisualWebBench(VisualWebBenchOptions(profile="full", parser="lmms-eval")),
    )
    assert short.synthetic
    assert (len(short.questions()), len(full.questions())) == (42, 210)
    assert (short.max_new_tokens, full.max_new_tokens) == (512, 16)
    assert short.questions()[0].load()[0].images[0].shape == (336, 448, 3)
    assert full.questions()[0].load()[0].images[0].shape == (720, 1280, 3)
    assert all("synthetic" in question.id and "synthetic" in question.images[0] for question in full.questions())
    assert VisualWebBench(VisualWebBenchOptions(limit=2, max_new_tokens=7)).max_new_tokens == 7
    assert len(VisualWebBench(VisualWebBenchOptions(limit=2)).questions()) == 14
    assert len({question.id for question in full.questions()}) == 210


def test_the_synthetic_set_is_always_the_same() -> None:
    first = VisualWebBench(VisualWebBenchOptions())
    random.seed(1)
    np.random.seed(1)
    state = random.getstate()
    second = VisualWebBench(VisualWebBenchOptions(seed=5))
    assert random.getstate() == state
    assert first.identity()["data"] == second.identity()["data"]
    assert first.identity() != second.identity()
    for one, other in zip(first.questions(), second.questions(), strict=True):
        assert one == other or one.gold == other.gold
        (one_message,), (other_message,) = one.load(), other.load()
        assert one_message.text == other_message.text
        assert np.array_equal(one_message.images[0], other_message.images[0])


def record(task: str, number: int, score: float, **metrics: float) -> Record:
    return Record(f"{task}/{number}", task, "", (), "", None, score, metrics)


def test_the_summary_by_hand() -> None:
    summary = VisualWebBench(VisualWebBenchOptions()).summarize(
        [
            record("action_ground", 0, 1.0, accuracy=1.0),
            record("action_ground", 1, 0.0, accuracy=0.0),
            record("webqa", 0, 0.5, f1=0.5),
            record("webqa", 1, 0.0),  # left out, as the published program does
            record("web_caption", 0, 0.2, rouge_1=0.4, rouge_2=0.1, rouge_l=0.2),
            record("web_caption", 1, 0.6, rouge_1=0.8, rouge_2=0.3, rouge_l=0.6),
        ]
    )
    tasks = summary["tasks"]
    assert list(tasks) == ["web_caption", "webqa", "action_ground"]
    # the deviation of 0 and 1 is 0.5, of 0.2 and 0.6 it is 0.2; over the root of two
    assert tasks["action_ground"]["score"] == pytest.approx(50)
    assert tasks["action_ground"]["standard_error"] == pytest.approx(50 / 2**0.5)
    assert (tasks["webqa"]["score"], tasks["webqa"]["count"]) == (pytest.approx(50), 1)
    assert tasks["web_caption"]["score"] == pytest.approx(40)
    assert tasks["web_caption"]["metrics"]["rouge_1"]["score"] == pytest.approx(60)
    assert tasks["web_caption"]["metrics"]["rouge_2"]["score"] == pytest.approx(20)
    assert tasks["web_caption"]["metrics"]["rouge_1"]["standard_error"] == pytest.approx(20 / 2**0.5)
    assert summary["score"] == pytest.approx((50 + 50 + 40) / 3)
    assert summary["standard_error"] == pytest.approx((50**2 / 2 + 20**2 / 2) ** 0.5 / 3)
    assert summary["count"] == 5


def test_webqa_answered_by_full_stops_only_is_wrong() -> None:
    summary = VisualWebBench(VisualWebBenchOptions()).summarize([record("webqa", 0, 0.0), record("webqa", 1, 0.0)])
    assert (summary["score"], summary["count"]) == (0.0, 2)


def meet(one: PixelBox, other: PixelBox) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def line_box(line: _Line) -> PixelBox:
    return line.x, line.y, line.x + _length(line.text, line.size), line.y + line.size


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_on_the_page_and_nothing_covers_another(size: tuple[int, int]) -> None:
    for site in sites():
        page = lay_out(site, *size)
        assert set(page.boxes) == {"heading", "text", "fact", *(link.label for link in site.links)}
        assert len(site.links) == 9
        for name, box in page.boxes.items():
            assert 0 <= box[0] < box[2] < size[0], (site.name, name)
            assert 0 <= box[1] < box[3] < size[1], (site.name, name)
            for other, other_box in page.boxes.items():
                assert name == other or not meet(box, other_box), (site.name, name, other)
        lines = [(line, line_box(line)) for line in page.shapes if isinstance(line, _Line)]
        for number, (line, box) in enumerate(lines):
            assert 0 <= box[0] < box[2] < size[0], (site.name, line)
            assert 0 <= box[1] < box[3] < size[1], (site.name, line)
            assert not any(meet(box, other) for _, other in lines[number + 1 :]), (site.name, line)


@pytest.mark.parametrize("size", SIZES)
def test_every_answer_can_be_read_off_the_page(size: tuple[int, int]) -> None:
    for site in sites():
        page = lay_out(site, *size)
        words = " ".join(shape.text for shape in page.shapes if isinstance(shape, _Line))
        assert site.heading in words
        assert site.text in words
        assert ":" not in site.text  # what stands before a colon would be dropped
        assert all(link.label in words for link in site.links)
        for question, answers in site.questions:
            assert any(answer in words for answer in answers), (site.name, question)
            assert all(any(part in words for part in answer.split()) for answer in answers), (site.name, question)
        # different options, tasks and numbers
        assert len({link.leads_to for link in site.links}) == len({link.purpose for link in site.links}) == 9
        assert len({answers for _, answers in site.questions}) == len(site.questions) == 4
    assert len({site.name for site in sites()}) == len({site.description for site in sites()}) == 30


def test_more_questions_than_sites_are_refused() -> None:
    assert len(VisualWebBench(VisualWebBenchOptions(limit=30)).questions()) == 30 * len(TASKS)
    with pytest.raises(BenchmarkDataError, match="limit is 31; the synthetic VisualWebBench has 30 questions"):
        VisualWebBench(VisualWebBenchOptions(limit=31))


def test_no_site_writes_a_before_a_vowel() -> None:
    for site in sites():
        texts = [site.description, *(text for link in site.links for text in (link.leads_to, link.purpose))]
        assert not [text for text in texts if re.search(r"\ba [aeio]", text, re.IGNORECASE)]


@pytest.mark.parametrize("size", SIZES)
def test_a_red_box_is_where_the_question_says(size: tuple[int, int]) -> None:
    for example in examples(*size, 3):
        red = np.argwhere((example.load() == RED).all(axis=-1))
        if example.bbox is None:
            assert bool(len(red)) == (example.task in {"element_ground", "action_ground"})
            continue
        shares = [*(red.min(axis=0)[::-1] / size), *(red.max(axis=0)[::-1] / size)]
        assert shares == pytest.approx(example.bbox, abs=6e-4)


def test_the_right_option_is_the_one_that_the_question_is_about() -> None:
    width, height = SIZES[0]
    for example in examples(width, height, 15):
        if example.task not in CHOICE_TASKS:
            continue
        assert isinstance(example.answer, int)
        site = sites()[int(example.id[-4:])]
        page = lay_out(site, width, height)
        if example.task == "action_prediction":
            assert len(set(example.options)) == 8
            (link,) = [link for link in site.links if link.leads_to == example.options[example.answer]]
            assert page.share(link.label) == example.bbox
            continue
        (link,) = [
            link
            for link in site.links
            if link.purpose == example.instruction or f'{link.kind} with the text "{link.label}"' == example.elem_desc
        ]
        # what a picture with this label alone has more than one with a box alone is in the picture of the question
        labelled = draw(page, labels={link.label: LETTERS[example.answer]})
        label = (labelled != draw(page, boxed=link.label)).any(axis=-1)
        assert label.any()
        assert np.array_equal(example.load()[label], labelled[label])


def test_labels_cover_no_element_and_stand_at_their_own() -> None:
    width, height = SIZES[0]
    for site in sites()[::3]:
        page = lay_out(site, width, height)
        plain = draw(page)
        for link in site.links:
            left, top, right, bottom = page.boxes[link.label]
            changed = (draw(page, labels={link.label: "A"}) != plain).any(axis=-1)
            ys, xs = np.nonzero(changed)
            side = round(1.4 * page.unit)
            assert left <= xs.min()
            assert xs.max() <= right + side + 1
            assert top - side <= ys.min()
            assert ys.max() <= bottom + side
            for name, box in page.boxes.items():
                if name != link.label:
                    assert not changed[box[1] : box[3], box[0] : box[2]].any(), (site.name, link.label, name)
            if link.kind != "card":
                inside = changed[top + 2 : bottom - 1, left + 2 : right - 1]
                assert not inside.any(), (site.name, link.label)
