"""Questions on invented websites, with exact answers: small, offline, and always the same.

They have the form of the published questions, not their difficulty: a score on them says that a model and this
benchmark work together, and cannot be compared with a published one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.harness.task import BenchmarkDataError
from benchmarks.suites.visual_web_bench.example import (
    ACTION_GROUND,
    ACTION_PREDICTION,
    CAPTION,
    ELEMENT_GROUND,
    ELEMENT_OCR,
    HEADING_OCR,
    LETTERS,
    TASKS,
    WEBQA,
    Example,
)
from benchmarks.suites.visual_web_bench.page import draw, lay_out
from benchmarks.suites.visual_web_bench.sites import Site, sites
from vldac.models.conversation import Image

_SEED = 20240405


def examples(width: int, height: int, count: int) -> list[Example]:
    """`count` questions of each task, at most one for each site, in the order of `TASKS`.

    Args:
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        count: of the questions of each task.

    Raises:
        BenchmarkDataError: there are not so many sites.
    """
    every = sites()
    if count > len(every):
        raise BenchmarkDataError(
            f"limit is {count}; the synthetic VisualWebBench has {len(every)} questions of each task, so lower it"
        )
    found: dict[str, list[Example]] = {task: [] for task in TASKS}
    for number, site in enumerate(every[: max(count, 0)]):
        for task, fields in questions_about(site, random.Random(_SEED + number), width, height):
            load = partial(_picture, site, width, height, fields.pop("boxed", None), fields.pop("labels", None))
            source = f"synthetic: {site.kind}, {site.name}"
            found[task].append(Example(f"synthetic/{task}/{number:04}", task, source, load, **fields))
    return [example for task in TASKS for example in found[task]]


def questions_about(site: Site, draws: random.Random, width: int, height: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A question of each task: the fields of its example, and what is marked in its picture (see `page.draw`)."""
    page = lay_out(site, width, height)
    yield CAPTION, {"answer": site.description}
    yield HEADING_OCR, {"answer": site.heading}
    yield ELEMENT_OCR, {"answer": site.text, "bbox": page.share("text"), "boxed": "text"}

    question, answers = draws.choice(site.questions)
    yield WEBQA, {"question": question, "answer": answers}

    for task in (ELEMENT_GROUND, ACTION_PREDICTION, ACTION_GROUND):
        offered = draws.sample(site.links, len(LETTERS))
        answer = draws.randrange(len(LETTERS))
        link = offered[answer]
        labels = {offer.label: letter for offer, letter in zip(offered, LETTERS, strict=True)}
        if task == ELEMENT_GROUND:
            yield task, {"elem_desc": f'{link.kind} with the text "{link.label}"', "answer": answer, "labels": labels}
        elif task == ACTION_GROUND:
            yield task, {"instruction": link.purpose, "answer": answer, "labels": labels}
        else:
            options = tuple(offer.leads_to for offer in offered)
            bbox = page.share(link.label)
            yield task, {"options": options, "bbox": bbox, "answer": answer, "boxed": link.label}


def _picture(
    site: Site, width: int, height: int, boxed: str | None = None, labels: Mapping[str, str] | None = None
) -> Image:
    return draw(lay_out(site, width, height), boxed, labels)
