"""Eight tasks about rooms that a video shows, four answered by an option's letter and four by a number."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

from benchmarks.harness.options import Profile
from benchmarks.harness.records import Record
from benchmarks.harness.scores import in_percent, overall
from benchmarks.harness.task import BenchmarkDataError, Question, QuestionBenchmark, Scored, Unreadable
from benchmarks.suites.vsi_bench.dataset import Item, Videos, load
from benchmarks.suites.vsi_bench.prompts import prompt
from benchmarks.suites.vsi_bench.questions import scene_items
from benchmarks.suites.vsi_bench.scene import Scene
from benchmarks.suites.vsi_bench.scoring import (
    MULTIPLE_CHOICE,
    accuracy,
    first_word,
    mean_relative_accuracy,
    read_number,
)
from benchmarks.suites.vsi_bench.suite import ENTRY, VSIBenchOptions
from benchmarks.suites.vsi_bench.visibility import LEAST_FRAMES
from vldac.models.conversation import Image, Message

VERSION = 1
#: The eight tasks in the order in which they are reported.
TASKS = (
    "object_counting",
    "object_abs_distance",
    "object_size_estimation",
    "room_size_estimation",
    "object_rel_distance",
    "object_rel_direction",
    "route_planning",
    "obj_appearance_order",
)
_DIRECTION = "object_rel_direction"
_LEVELS = ("easy", "medium", "hard")
#: Scenes of the synthetic set, and the width and height of their frames.
_SCENES = {"short": 8, "full": 40}
_PIXELS = {"short": (128, 96), "full": (640, 480)}


class VSIBench(QuestionBenchmark):
    """VSI-Bench on the published videos, or on synthetic rooms where no data is given.

    A question's task is its question type, so that the three levels of relative direction are apart in the records;
    the summary puts them together as the published one does.

    Args:
        options: `data`, `frames`, `style`, `parser` and `limit` (questions of each type) are taken. The synthetic
            set has `LEAST_FRAMES` frames in the short profile, whatever `frames` says.

    Raises:
        BenchmarkDataError: the data is missing or not as published, or the synthetic set is asked for with too few
            frames.
    """

    name, title = ENTRY.name, ENTRY.title
    options: VSIBenchOptions
    #: As both programs have it: an answer is a letter or a number.
    max_new_tokens = 16

    def __init__(self, options: VSIBenchOptions) -> None:
        super().__init__(options)
        self.synthetic = options.data is None
        self._items: list[Item]
        self._videos: Videos | None = None
        if options.data is None:
            self.frames = LEAST_FRAMES if options.profile == "short" else options.frames
            if self.frames < LEAST_FRAMES:
                raise BenchmarkDataError(
                    f"the synthetic VSI-Bench shows one turn in at least {LEAST_FRAMES} frames, not {self.frames}; "
                    "raise the number of frames"
                )
            scenes = _SCENES[options.profile] if options.limit is None else options.limit
            self._items = [item for index in range(scenes) for item in _scene(index)[1]]
        else:
            self.frames = options.frames
            items, self._videos = load(options.data)
            # Questions about one video follow one another, so that it is decoded once.
            self._items = sorted(
                _first_of_each_type(items, options.limit), key=lambda item: (item.dataset, item.scene_name)
            )

    @property
    def profile(self) -> Profile:
        """See `Benchmark`; of the published data every question is put."""
        return self.options.profile if self.synthetic else "full"

    def identity(self) -> dict[str, Any]:
        """See `Benchmark`; the data counts by its questions and the sizes of its videos, 0 of one that is missing.

        Raises:
            BenchmarkDataError: too many videos are missing; see `Unreadable`.
        """
        data = [[asdict(item), size] for item, size in zip(self._items, self._sizes(), strict=True)]
        return {
            "benchmark": self.name,
            "version": VERSION,
            "synthetic": self.synthetic,
            "data": hashlib.sha256(json.dumps(data).encode()).hexdigest(),
            "profile": self.profile,
            "frames": self.frames,
            "style": self.options.style,
            "parser": self.options.parser,
            "max_new_tokens": self.options.max_new_tokens or self.max_new_tokens,
            "seed": self.options.seed,
        }

    def questions(self) -> Sequence[Question]:
        """See `QuestionBenchmark`; questions about one video are together."""
        return [
            Question(
                id=item.id,
                task=item.question_type,
                images=(f"{item.video} ({self.frames} frames)",),
                load=partial(self._messages, item),
                gold={"question_type": item.question_type, "ground_truth": item.ground_truth},
            )
            for item in self._items
        ]

    def score(self, question: Question, text: str) -> Scored:
        """See `QuestionBenchmark`: accuracy of the letter, or mean relative accuracy of the number."""
        truth = question.gold["ground_truth"]
        if question.gold["question_type"] in MULTIPLE_CHOICE:
            return Scored(accuracy(text, truth), first_word(text) or None)
        number = read_number(text, self.options.parser)
        # JSON has no infinity and no NaN; neither is ever worth anything.
        finite = number is not None and abs(number) < float("inf")
        return Scored(mean_relative_accuracy(number, float(truth)), number if finite else None)

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """See `Benchmark`; relative direction is the mean of its levels, the score the mean of the tasks.

        The published set has three levels, easy, medium and hard; of a part of it, those count that there are, and
        `metrics` names them.

        Raises:
            ValueError: there are no records.
        """
        types: dict[str, list[float]] = {}
        for record in records:
            types.setdefault(record.task, []).append(record.score)
        scores = {kind: in_percent(values) for kind, values in types.items()}
        levels = {level: scores.pop(f"{_DIRECTION}_{level}") for level in _LEVELS if f"{_DIRECTION}_{level}" in scores}
        if levels:
            scores[_DIRECTION] = _direction(levels)
        tasks = {task: scores[task] for task in TASKS if task in scores}
        if not tasks:
            raise ValueError("there are no records of VSI-Bench to summarise; run the benchmark first")
        return overall(tasks)

    def _sizes(self) -> list[int]:
        """Of the video of each question, in bytes."""
        if self._videos is None:
            return [0] * len(self._items)
        sizes, missing = [], Unreadable()
        for item in self._items:
            try:
                sizes.append(self._videos.size(item.video))
                missing.loaded += 1
            except BenchmarkDataError as error:
                missing.skip(error)
                sizes.append(0)
        missing.finish()
        return sizes

    def _messages(self, item: Item) -> tuple[Message, ...]:
        if self._videos is None:
            frames = _rendered(item.scene_name, self.frames, *_PIXELS[self.options.profile])
        else:
            frames = _decoded(self._videos, item.video, self.frames)
        return (Message("user", (*frames, prompt(item, self.options.style))),)


def _direction(levels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    mean = overall(levels)
    return {
        "score": mean["score"],
        "standard_error": mean["standard_error"],
        "count": mean["count"],
        "metrics": {level: values["score"] for level, values in levels.items()},
    }


def _first_of_each_type(items: Sequence[Item], limit: int | None) -> list[Item]:
    seen: Counter[str] = Counter()
    kept = []
    for item in items:
        seen[item.question_type] += 1
        if limit is None or seen[item.question_type] <= limit:
            kept.append(item)
    return kept


@lru_cache(maxsize=64)
def _scene(index: int) -> tuple[Scene, tuple[Item, ...]]:
    scene, items = scene_items(index)
    return scene, tuple(items)


@lru_cache(maxsize=4)
def _rendered(scene_name: str, frames: int, width: int, height: int) -> tuple[Image, ...]:
    from benchmarks.suites.vsi_bench.renderer import render  # noqa: PLC0415  # needs OpenGL, which published data does not

    scene, _ = _scene(int(scene_name.rpartition("-")[2]))
    return render(scene, frames, width, height)


@lru_cache(maxsize=2)
def _decoded(videos: Videos, video: str, frames: int) -> tuple[Image, ...]:
    return videos.read(video, frames)
