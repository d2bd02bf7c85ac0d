"""Questions about a synthetic scene, in the wording of VSI-Bench, with their exact answers.

The wording is that of the benchmark's own question templates (Yang et al. 2024, arXiv 2412.14171, appendix; data set
under Apache-2.0): it is what a model is known to understand or not. Questions whose answer is near a border between
two answers are not asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from benchmarks.suites.vsi_bench.dataset import Item
from benchmarks.suites.vsi_bench.scene import SIDES, Scene, Thing, draw_scene, gap
from benchmarks.suites.vsi_bench.scoring import MULTIPLE_CHOICE
from benchmarks.suites.vsi_bench.visibility import STRIDE, Appearance, appearances

DATASET = "synthetic"
_SEED = 20241218
#: Meters by which the closest of several things is closer than the next.
_DISTANCE_MARGIN = 0.3
#: Degrees between a direction and the border to another one.
_ANGLE_MARGIN = 15
_ROUTES = tuple(", ".join(pair) for pair in product(("Turn Left", "Turn Right", "Turn Back"), repeat=2))

#: A question, its options if it has any, and the right one of them or the number.
Asked = tuple[str, Sequence[str], str]


def scene_items(
    index: int, root: tuple[int, ...] = (_SEED,), sides: tuple[float, float] = SIDES
) -> tuple[Scene, list[Item]]:
    """The `index`-th scene of a set and its questions, one of each type: always the same.

    Args:
        index: of the scene.
        root: that the set is drawn from; by default that of the benchmark.
        sides: between which those of the rooms are.
    """
    rng = np.random.default_rng([*root, index])
    while True:
        scene = draw_scene(rng, sides)
        if scene is None:
            continue
        seen = appearances(scene)
        asked = None if seen is None else _ask(scene, seen, index, rng, root)
        if asked is not None:
            return scene, [_item(index, kind, question, rng) for kind, question in asked.items()]


def relative_angle(origin: Thing, facing: Thing, target: Thing) -> float:
    """Degrees in (-180, 180] by which one who stands at `origin` and faces `facing` turns left to face `target`."""
    first, second = (math.atan2(origin.z - thing.z, thing.x - origin.x) for thing in (facing, target))
    return -((180 - math.degrees(second - first)) % 360 - 180)


def _ask(
    scene: Scene, seen: Sequence[Appearance], index: int, rng: np.random.Generator, root: tuple[int, ...]
) -> dict[str, Asked] | None:
    """One question of each type, or None where the scene does not answer them all clearly."""
    order = _appearance_order(scene, seen, rng)
    if order is None:
        return None
    distance = _relative_distance(scene, rng)
    route = _route(scene, _wanted("route_planning", _ROUTES, index, root), rng)
    directions = {
        kind: _direction(scene, direction, _wanted(kind, direction.answers, index, root), rng)
        for kind, direction in _DIRECTIONS.items()
    }
    if distance is None or route is None or None in directions.values():
        return None
    return {
        "object_counting": _counting(scene),
        "object_abs_distance": _absolute_distance(scene, rng),
        "object_size_estimation": _size(scene, rng),
        "room_size_estimation": _room(scene),
        "object_rel_distance": distance,
        **{kind: asked for kind, asked in directions.items() if asked is not None},
        "route_planning": route,
        "obj_appearance_order": order,
    }


def _item(index: int, kind: str, asked: Asked, rng: np.random.Generator) -> Item:
    """Letters the options so that over the scenes each letter is right equally often."""
    question, options, answer = asked
    if options:
        place = (index + MULTIPLE_CHOICE.index(kind)) % len(options)
        shuffled = _others(options, answer, len(options) - 1, rng)
        shuffled.insert(place, answer)
        letters = "ABCD"[: len(options)]
        options, answer = (
            [f"{letter}. {option}" for letter, option in zip(letters, shuffled, strict=True)],
            letters[place],
        )
    scene_name = f"scene-{index:04d}"
    return Item(f"{scene_name}/{kind}", DATASET, scene_name, kind, question, tuple(options), answer)


def _orders(things: Sequence[Thing], count: int, rng: np.random.Generator) -> Iterator[list[Thing]]:
    """All ways to take some of the things in some order, shuffled."""
    orders = list(permutations(things, count))
    for index in rng.permutation(len(orders)):
        yield list(orders[index])


def _wanted(kind: str, answers: Sequence[str], index: int, root: tuple[int, ...]) -> str:
    """Which answer is the right one in a scene: each is in its turn, but in no order that the letters follow.

    Left to chance, some answers, such as two turns to the same side, would hardly ever be right.
    """
    block, place = divmod(index, len(answers))
    rng = np.random.default_rng([*root, MULTIPLE_CHOICE.index(kind), block])
    return answers[rng.permutation(len(answers))[place]]


def _others(options: Sequence[str], answer: str, count: int, rng: np.random.Generator) -> list[str]:
    """Some of the wrong options."""
    wrong = [option for option in options if option != answer]
    return [wrong[index] for index in rng.permutation(len(wrong))[:count]]


def _counting(scene: Scene) -> Asked:
    names = [thing.name for thing in scene.things]
    name = max(names, key=names.count)
    return f"How many {name}(s) are in this room?", (), str(names.count(name))


def _absolute_distance(scene: Scene, rng: np.random.Generator) -> Asked:
    a, b = next(_orders(scene.unique, 2, rng))
    question = (
        "Measuring from the closest point of each object, what is the direct distance between the "
        f"{a.name} and the {b.name} (in meters)?"
    )
    return question, (), f"{gap(a, b):.1f}"


def _size(scene: Scene, rng: np.random.Generator) -> Asked:
    (thing,) = next(_orders(scene.unique, 1, rng))
    question = (
        f"What is the length of the longest dimension (length, width, or height) of the {thing.name}, "
        "measured in centimeters?"
    )
    return question, (), str(round(100 * max(thing.size)))


def _room(scene: Scene) -> Asked:
    question = (
        "What is the size of this room (in square meters)? If multiple rooms are shown, estimate the size of the "
        "combined space."
    )
    return question, (), f"{scene.width * scene.depth:.1f}"


def _relative_distance(scene: Scene, rng: np.random.Generator) -> Asked | None:
    for anchor, *others in _orders(scene.unique, 5, rng):
        distances = sorted((gap(anchor, thing), thing.name) for thing in others)
        if distances[1][0] - distances[0][0] >= _DISTANCE_MARGIN:
            names = [thing.name for thing in others]
            question = (
                f"Measuring from the closest point of each object, which of these objects ({', '.join(names)}) is the "
                f"closest to the {anchor.name}?"
            )
            return question, names, distances[0][1]
    return None


def _easy(angle: float) -> str | None:
    if not _ANGLE_MARGIN <= abs(angle) <= 180 - _ANGLE_MARGIN:
        return None
    return "left" if angle > 0 else "right"


def _medium(angle: float) -> str | None:
    if abs(angle) >= 135 + _ANGLE_MARGIN:
        return "back"
    return _easy(angle) if abs(angle) <= 135 - _ANGLE_MARGIN else None


def _hard(angle: float) -> str | None:
    side = _easy(angle)
    if side is None or abs(abs(angle) - 90) < _ANGLE_MARGIN:
        return None
    return f"{'front' if abs(angle) < 90 else 'back'}-{side}"


@dataclass(frozen=True)
class _Direction:
    """A level of relative direction: its answers, which of them an angle has, and the end of the question."""

    answers: tuple[str, ...]
    classify: Callable[[float], str | None]
    words: str


_DIRECTIONS = {
    "object_rel_direction_easy": _Direction(("left", "right"), _easy, "to the left or the right of the {facing}?"),
    "object_rel_direction_medium": _Direction(
        ("left", "right", "back"),
        _medium,
        "to my left, right, or back? An object is to my back if I would have to turn at least 135 degrees in order to "
        "face it.",
    ),
    "object_rel_direction_hard": _Direction(
        ("front-left", "front-right", "back-left", "back-right"),
        _hard,
        "to my front-left, front-right, back-left, or back-right? The directions refer to the quadrants of a Cartesian "
        "plane (if I am standing at the origin and facing along the positive y-axis).",
    ),
}


def _direction(scene: Scene, direction: _Direction, answer: str, rng: np.random.Generator) -> Asked | None:
    for origin, facing, target in _orders(scene.unique, 3, rng):
        if direction.classify(relative_angle(origin, facing, target)) == answer:
            question = (
                f"If I am standing by the {origin.name} and facing the {facing.name}, is the {target.name} "
                + direction.words.format(facing=facing.name)
            )
            return question, direction.answers, answer
    return None


def _turn(angle: float) -> str | None:
    if abs(angle) >= 135 + _ANGLE_MARGIN:
        return "Turn Back"
    if abs(abs(angle) - 90) <= 45 - _ANGLE_MARGIN:
        return "Turn Left" if angle > 0 else "Turn Right"
    return None


def _route(scene: Scene, answer: str, rng: np.random.Generator) -> Asked | None:
    for start, facing, middle, end in _orders(scene.unique, 4, rng):
        first = _turn(relative_angle(start, facing, middle))
        # Who has walked from the start to the middle looks away from the start.
        away = relative_angle(middle, start, end)
        second = _turn(away - 180 if away > 0 else away + 180)
        if f"{first}, {second}" == answer:
            question = (
                f"You are a robot beginning at the {start.name} and facing the {facing.name}. You want to navigate to "
                f"the {end.name}. You will perform the following actions (Note: for each [please fill in], choose "
                "either 'turn back,' 'turn left,' or 'turn right.'): 1. [please fill in] "
                f"2. Go forward until the {middle.name} 3. [please fill in] 4. Go forward until the {end.name}. You "
                "have reached the final destination."
            )
            return question, [answer, *_others(_ROUTES, answer, 3, rng)], answer
    return None


def _appearance_order(scene: Scene, seen: Sequence[Appearance], rng: np.random.Generator) -> Asked | None:
    """Things that come into sight one after the other, in a video of any number of frames."""
    when = sorted(
        ((appearance, thing) for appearance, thing in zip(seen, scene.things, strict=True) if thing in scene.unique),
        key=lambda pair: pair[0].certain,
    )
    chosen: list[tuple[Appearance, Thing]] = []
    for appearance, thing in when:
        if not chosen or appearance.first >= chosen[-1][0].certain + STRIDE + 1:
            chosen.append((appearance, thing))
    if len(chosen) < 4:
        return None
    names = [thing.name for _, thing in chosen[:4]]
    answer = ", ".join(names)
    others = _others(list(map(", ".join, permutations(names))), answer, 3, rng)
    listed = ", ".join(names[index] for index in rng.permutation(4))
    question = f"What will be the first-time appearance order of the following categories in the video: {listed}?"
    return question, [answer, *others], answer
