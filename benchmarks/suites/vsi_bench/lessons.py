"""Lessons in the form of the synthetic VSI-Bench, in rooms that the benchmark never shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

from benchmarks.harness.options import Style
from benchmarks.suites.vsi_bench.dataset import Item
from benchmarks.suites.vsi_bench.prompts import prompt as text_of
from benchmarks.suites.vsi_bench.questions import scene_items
from benchmarks.suites.vsi_bench.visibility import LEAST_FRAMES, sightings
from envs.base import Mark
from vldac.examples import Example
from vldac.models.conversation import Message

#: What the scenes are drawn from. The benchmark's own begin with another number, so that none is drawn twice.
ROOT = 20250611
#: Between which the sides of the rooms are: the benchmark's range lies within.
SIDES = (5.0, 9.5)


class VSILessons:
    """Ten questions about each room, one of each type, with the frames and the words of the benchmark.

    The thoughts say which way the camera turns and in which frame, from 1, each thing of the question is first seen;
    then comes the right option in words, if there are options.

    Args:
        prompt: style of the prompts.
        width: of a frame in pixels; its height is 3/4 of it.
    """

    def __init__(self, *, prompt: Style, width: int = 128) -> None:
        self.style, self.size = prompt, (width, width * 3 // 4)

    def examples(self, seed: int) -> Iterator[Example]:
        """See `vldac.examples.Lessons`."""
        from benchmarks.suites.vsi_bench.renderer import render  # noqa: PLC0415  # needs OpenGL

        for index in count():
            scene, items = scene_items(index, (ROOT, seed), SIDES)
            frames = render(scene, LEAST_FRAMES, *self.size)
            seen = [sightings(scene, number / LEAST_FRAMES) for number in range(LEAST_FRAMES)]
            first: dict[str, int] = {}
            for number, things in enumerate(seen, 1):
                for thing, _, _ in things:
                    first.setdefault(thing.name, number)
            for place, item in enumerate(items):
                marked = (index + place) % LEAST_FRAMES
                yield Example.of(
                    (Message("user", (*frames, text_of(item, self.style))),),
                    describe(item, scene.turn, first),
                    (item.ground_truth,),
                    tuple(Mark(thing.name, x, y) for thing, x, y in seen[marked]),
                    marked,
                )


def describe(item: Item, turn: int, first: Mapping[str, int]) -> str:
    """The way to the answer of a question, in few words.

    Args:
        item: the question.
        turn: of the camera, see `Scene`.
        first: in which frame the things of each name are first seen.
    """
    asked = sorted((name for name in first if name in item.question), key=item.question.index)
    facts = [f"turn {'left' if turn > 0 else 'right'}", *(f"{name} {first[name]}" for name in asked)]
    right = [option.partition(". ")[2] for option in item.options if option.startswith(f"{item.ground_truth}.")]
    return ", ".join(facts) + "".join(f": {option}" for option in right)
