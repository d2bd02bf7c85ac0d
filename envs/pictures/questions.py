"""The kinds of question. Options are drawn first and the right one among them last, so the text gives nothing away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from envs.pictures.scenes import COLORS, INKS, SHAPES, Scene, Writing, place

#: Most options of a question.
MOST_OPTIONS = 4
WORDS = (
    "apple", "bell", "bird", "boat", "book", "box", "cat", "coin", "corn", "cup", "desk", "dog", "door", "fish",
    "flag", "goat", "gold", "hand", "hat", "horse", "key", "lamp", "leaf", "milk", "moon", "pen", "rain", "road",
    "salt", "ship", "sun", "tree",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question about one picture.

    Attributes:
        kind: one of `KINDS`.
        scene: what the picture shows.
        text: the question for a pretrained model.
        terse: the same in as few words as can be.
        options: the possible answers, in the order in which they are listed.
        answer: the right one.
        description: a short, true sentence about the picture, from which the answer follows.
    """

    kind: str
    scene: Scene
    text: str
    terse: str
    options: tuple[str, ...]
    answer: str
    description: str


def ask(rng: np.random.Generator, kind: str) -> Question:
    """Draws a question of one of `KINDS`."""
    return KINDS[kind](rng)


def _count(rng: np.random.Generator) -> Question:
    """How many shapes of one form and color there are, among up to four that differ in one of the two or both."""
    options = _some(rng, ["1", "2", "3", "4"], 4)
    name, color = _one(rng, SHAPES), _one(rng, tuple(COLORS))
    answer = _one(rng, options)
    others = [(n, c) for n in SHAPES for c in COLORS if (n, c) != (name, color)]
    shown = [(name, color)] * int(answer) + [others[i] for i in rng.integers(len(others), size=rng.integers(5))]
    cells = rng.permutation(12)[: len(shown)]
    shapes = tuple(
        place(rng, n, c, (int(cell) % 4, int(cell) // 4), (4, 3)) for (n, c), cell in zip(shown, cells, strict=True)
    )
    many = f"{color} {name}s"
    return Question(
        "count",
        Scene(shapes),
        f"How many {many} are in the picture?",
        f"how many {many}?",
        options,
        answer,
        f"{answer} {color} {name}" + ("" if answer == "1" else "s"),
    )


def _color(rng: np.random.Generator) -> Question:
    """The color of one of three different shapes, whose colors differ."""
    options = _some(rng, tuple(COLORS), 4)
    name, answer = _one(rng, SHAPES), _one(rng, options)
    rest = _some(rng, [color for color in COLORS if color != answer], 2)
    colors = iter(rest)
    cells = rng.permutation(6)[:3]
    shapes = tuple(
        place(rng, n, answer if n == name else next(colors), (int(cell) % 3, int(cell) // 3), (3, 2))
        for n, cell in zip(SHAPES, cells, strict=True)
    )
    return Question(
        "color",
        Scene(shapes),
        f"Which color is the {name} in the picture?",
        f"color of the {name}?",
        options,
        answer,
        f"{name} is {answer}",
    )


def _relation(rng: np.random.Generator) -> Question:
    """On which side of another shape a shape lies, with a third of the picture between their cells."""
    across = bool(rng.integers(2))
    options = _some(rng, ["left", "right"] if across else ["above", "below"], 2)
    name, other = _some(rng, SHAPES, 2)
    answer = _one(rng, options)
    at = 0 if answer in ("left", "above") else 2
    free = [int(row) for row in rng.integers(3, size=2)]
    cells = [(at, free[0]), (2 - at, free[1])] if across else [(free[0], at), (free[1], 2 - at)]
    shapes = tuple(
        place(rng, n, _one(rng, tuple(COLORS)), cell, (3, 3)) for n, cell in zip((name, other), cells, strict=True)
    )
    sides = "to the left or to the right of" if across else "above or below"
    return Question(
        "relation",
        Scene(shapes),
        f"Is the {name} in the picture {sides} the {other}?",
        f"where is the {name} from the {other}?",
        options,
        answer,
        f"{name} is {answer}",
    )


def _reading(rng: np.random.Generator) -> Question:
    """What is written in the picture: a word, or a number of two digits."""
    thing = _one(rng, ("word", "number"))
    options = _some(rng, WORDS if thing == "word" else [str(number) for number in range(10, 100)], 4)
    answer = _one(rng, options)
    x, y, size = (float(part) for part in rng.uniform(size=3))
    return Question(
        "reading",
        Scene(writing=Writing(answer, _one(rng, INKS), x, y, 0.8 + 0.2 * size)),
        f"Which {thing} is written in the picture?",
        f"which {thing}?",
        options,
        answer,
        f"{thing} {answer}",
    )


def _order(rng: np.random.Generator) -> Question:
    """Which of three shapes came first or last, where three panels are three moments from left to right."""
    options = _some(rng, SHAPES, 3)
    first = bool(rng.integers(2))
    answer = _one(rng, options)
    rest = _some(rng, [name for name in SHAPES if name != answer], 2)
    shown = (answer, *rest) if first else (*rest, answer)
    shapes = tuple(place(rng, name, _one(rng, tuple(COLORS)), (number, 0), (3, 1)) for number, name in enumerate(shown))
    end = "first" if first else "last"
    return Question(
        "order",
        Scene(shapes, panels=3),
        "The three panels of the picture are three moments, the earliest on the left and the latest on the right. "
        f"Which shape came {end}?",
        f"left to right. which shape came {end}?",
        options,
        answer,
        f"{shown[0]} then {shown[1]} then {shown[2]}",
    )


def _one(rng: np.random.Generator, things: Sequence[str]) -> str:
    return things[int(rng.integers(len(things)))]


def _some(rng: np.random.Generator, things: Sequence[str], count: int) -> tuple[str, ...]:
    """As many different ones, in random order."""
    return tuple(things[int(index)] for index in rng.permutation(len(things))[:count])


KINDS: dict[str, Callable[[np.random.Generator], Question]] = {
    "count": _count,
    "color": _color,
    "relation": _relation,
    "reading": _reading,
    "order": _order,
}
