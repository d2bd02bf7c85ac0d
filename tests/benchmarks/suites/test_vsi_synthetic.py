"""The synthetic rooms: every answer against a slow computation from the scene, and against the rendered video."""

from __future__ import annotations

import cmath
import math
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.suites.vsi_bench.dataset import Item
from benchmarks.suites.vsi_bench.questions import relative_angle, scene_items
from benchmarks.suites.vsi_bench.renderer import render
from benchmarks.suites.vsi_bench.scene import Scene, Thing, gap
from benchmarks.suites.vsi_bench.scoring import MULTIPLE_CHOICE, NUMERIC
from benchmarks.suites.vsi_bench.visibility import LEAST_FRAMES, STEPS, appearances
from envs.registry import make

SCENES = range(12)
SOME = range(5)


@cache
def scene_of(index: int) -> tuple[Scene, dict[str, Item]]:
    scene, items = scene_items(index)
    return scene, {item.question_type: item for item in items}


def right(item: Item) -> str:
    """The right option's text."""
    option = item.options["ABCD".index(item.ground_truth)]
    assert option.startswith(f"{item.ground_truth}. ")
    return option[3:]


def named(scene: Scene, name: str) -> Thing:
    (thing,) = [thing for thing in scene.things if thing.name == name]
    return thing


def names_in(text: str) -> list[str]:
    return re.findall(r"(?:red|green|blue|purple|yellow) (?:box|ball)", text)


def surface(thing: Thing, steps: int = 13) -> np.ndarray:
    """Points all over a thing, (N, 3)."""
    shares = np.linspace(-0.5, 0.5, steps)
    centre = np.array([thing.x, thing.size[1] / 2, thing.z])
    if thing.shape == "ball":
        polar, azimuth = np.meshgrid(np.linspace(0, math.pi, 2 * steps), np.linspace(0, 2 * math.pi, 4 * steps))
        ball = np.stack([np.sin(polar) * np.cos(azimuth), np.cos(polar), np.sin(polar) * np.sin(azimuth)], -1)
        return centre + ball.reshape(-1, 3) * thing.size[1] / 2
    grid = np.stack(np.meshgrid(shares, shares, shares), -1).reshape(-1, 3)
    return centre + grid[(np.abs(grid) == 0.5).any(1)] * thing.size


def sampled_gap(a: Thing, b: Thing) -> float:
    points = surface(b)
    return min(float(np.linalg.norm(points - point, axis=1).min()) for point in surface(a))


def turn_left(scene: Scene, origin: str, facing: str, target: str) -> float:
    """Degrees to the left, in (-180, 180], with the floor as a plane of complex numbers that has south below."""
    at, ahead, to = (complex(thing.x, -thing.z) for thing in (named(scene, name) for name in (origin, facing, target)))
    return math.degrees(cmath.phase((to - at) / (ahead - at)))


def test_every_scene_has_one_question_of_each_type() -> None:
    for index in SCENES:
        items = list(scene_of(index)[1].values())
        assert sorted(item.question_type for item in items) == sorted(MULTIPLE_CHOICE + NUMERIC)
        assert len({item.id for item in items}) == 10
        assert all(len(set(item.options)) == len(item.options) for item in items)


def test_scenes_are_always_the_same() -> None:
    assert scene_items(3) == scene_items(3)
    assert scene_items(3) != scene_items(4)


@pytest.mark.parametrize("index", SOME)
def test_things_stand_apart_in_the_room(index: int) -> None:
    scene, _ = scene_of(index)
    for thing in scene.things:
        assert (thing.low[[0, 2]] > [-scene.width / 2, -scene.depth / 2]).all()
        assert (thing.high[[0, 2]] < [scene.width / 2, scene.depth / 2]).all()
    for number, thing in enumerate(scene.things):
        assert all(gap(thing, other) > 0.2 for other in scene.things[:number])


@pytest.mark.parametrize("index", SOME)
def test_counting_and_sizes(index: int) -> None:
    scene, items = scene_of(index)
    (name,) = names_in(items["object_counting"].question)
    assert int(items["object_counting"].ground_truth) == sum(thing.name == name for thing in scene.things) >= 2
    (name,) = names_in(items["object_size_estimation"].question)
    low, high = surface(named(scene, name)).min(0), surface(named(scene, name)).max(0)
    assert int(items["object_size_estimation"].ground_truth) == pytest.approx(100 * max(high - low), abs=0.6)
    corners = [(-scene.width / 2, -scene.depth / 2), (scene.width / 2, -scene.depth / 2)]
    corners += [(x, -z) for x, z in reversed(corners)]
    shoelace = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*corners, corners[0]])) / 2
    assert float(items["room_size_estimation"].ground_truth) == pytest.approx(abs(shoelace), abs=0.051)


@pytest.mark.parametrize("index", SOME)
def test_distances(index: int) -> None:
    scene, items = scene_of(index)
    a, b = names_in(items["object_abs_distance"].question)
    assert float(items["object_abs_distance"].ground_truth) == pytest.approx(
        sampled_gap(named(scene, a), named(scene, b)), abs=0.1
    )
    *others, anchor = names_in(items["object_rel_distance"].question)
    distances = sorted((sampled_gap(named(scene, other), named(scene, anchor)), other) for other in others)
    assert right(items["object_rel_distance"]) == distances[0][1]
    assert distances[1][0] - distances[0][0] > 0.2
    assert sorted(option[3:] for option in items["object_rel_distance"].options) == sorted(others)


@pytest.mark.parametrize("index", SOME)
def test_directions(index: int) -> None:
    scene, items = scene_of(index)
    for level in ("easy", "medium", "hard"):
        item = items[f"object_rel_direction_{level}"]
        origin, facing, target, *_ = names_in(item.question)
        angle = turn_left(scene, origin, facing, target)
        side = "left" if angle > 0 else "right"
        if level == "medium" and abs(angle) >= 135:
            side = "back"
        if level == "hard":
            side = f"{'front' if abs(angle) < 90 else 'back'}-{side}"
        assert right(item) == side
        borders = {"easy": (0, 180), "medium": (0, 135), "hard": (0, 90, 180)}[level]
        assert min(abs(abs(angle) - border) for border in borders) > 14


@pytest.mark.parametrize("index", SOME)
def test_a_robot_that_obeys_arrives(index: int) -> None:
    scene, items = scene_of(index)
    item = items["route_planning"]
    start, facing, end, middle, _ = names_in(item.question)
    x = {name: complex(named(scene, name).x, -named(scene, name).z) for name in (start, facing, end, middle)}
    heading = {"Turn Left": 1j, "Turn Right": -1j, "Turn Back": -1}

    def deviations(option: str) -> list[float]:
        """Degrees between where the robot then looks and where it has to go, at both turns."""
        first, second = option.split(", ")
        looks = (x[facing] - x[start]) * heading[first], (x[middle] - x[start]) * heading[second]
        ways = x[middle] - x[start], x[end] - x[middle]
        return [abs(math.degrees(cmath.phase(way / look))) for way, look in zip(ways, looks, strict=True)]

    assert max(deviations(right(item))) < 31
    wrong = [option[3:] for option in item.options if option[3:] != right(item)]
    assert all(max(deviations(option)) > 45 for option in wrong)


def test_angles_are_positive_to_the_left() -> None:
    origin, east, north = (Thing("red", "ball", x, z, (0.5, 0.5, 0.5)) for x, z in ((0, 0), (1, 0), (0, -1)))
    assert relative_angle(origin, east, north) == pytest.approx(90)
    assert relative_angle(origin, north, east) == pytest.approx(-90)
    assert relative_angle(origin, east, replace(east, x=-1)) == pytest.approx(180)


def pixels(scene: Scene, frames: int) -> np.ndarray:
    """How many pixels of each frame change without each thing, (frames, things)."""
    whole = render(scene, frames, 160, 120)
    counts = []
    for thing in scene.things:
        rest = tuple(other for other in scene.things if other is not thing)
        without = render(replace(scene, things=rest), frames, 160, 120)
        counts.append([int((a != b).any(-1).sum()) for a, b in zip(whole, without, strict=True)])
    return np.array(counts).T


@pytest.mark.parametrize(("index", "frames"), [(0, 8), (1, 8), (2, 11), (5, 8)])
def test_the_video_shows_what_is_asked_about(index: int, frames: int) -> None:
    scene, items = scene_of(index)
    shown = pixels(scene, frames)
    assert (shown.max(0) > 60).all(), "every thing is plainly seen in some frame"
    first = {thing.name: int((shown[:, k] > 0).argmax()) for k, thing in enumerate(scene.things)}
    order = right(items["obj_appearance_order"]).split(", ")
    assert [first[name] for name in order] == sorted({first[name] for name in order}), "one after the other"


def test_nothing_shows_before_its_time() -> None:
    scene, _ = scene_of(4)
    shown = pixels(scene, STEPS // 2) > 0
    appeared = appearances(scene)
    assert appeared is not None
    for k, appearance in enumerate(appeared):
        assert not shown[: (appearance.first + 1) // 2, k].any()
        assert shown[math.ceil(appearance.certain / 2), k]


def test_a_thing_behind_another_is_not_seen() -> None:
    behind = Thing("red", "ball", 3.0, 0.0, (0.4, 0.4, 0.4))
    wall = Thing("blue", "box", 2.2, 0.0, (0.2, 1.4, 1.2))
    aside = replace(wall, z=-3.0)
    assert appearances(Scene(9.0, 9.0, (behind, wall), math.pi, 1)) is None
    assert appearances(Scene(9.0, 9.0, (behind, aside), math.pi, 1)) is not None


def test_frames_do_not_depend_on_what_was_drawn_before() -> None:
    scene, other = scene_of(0)[0], scene_of(1)[0]
    first = render(scene, LEAST_FRAMES, 64, 48)
    render(other, LEAST_FRAMES, 64, 48)
    assert all(np.array_equal(a, b) for a, b in zip(first, render(scene, LEAST_FRAMES, 64, 48), strict=True))
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in first)


def test_an_environment_beside_it_draws_what_it_always_draws() -> None:
    def walk(between: bool) -> list[np.ndarray]:
        env = make("MiniWorld-MazeS2-v0", width=64, height=48)
        observation, _ = env.reset(seed=5)
        frames = [observation["frames"]]
        for action in (0, 2, 2):
            if between:
                render(scene_of(0)[0], LEAST_FRAMES, 64, 48)
            frames.append(env.step(action)[0]["frames"])
        env.close()
        return frames

    before = render(scene_of(1)[0], LEAST_FRAMES, 64, 48)
    assert all(np.array_equal(a, b) for a, b in zip(walk(False), walk(True), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(before, render(scene_of(1)[0], LEAST_FRAMES, 64, 48), strict=True))


def test_a_turn_in_too_few_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 frames"):
        render(scene_of(0)[0], 7, 64, 48)


def test_no_letter_and_no_answer_is_a_good_guess() -> None:
    letters: dict[str, Counter[str]] = {kind: Counter() for kind in MULTIPLE_CHOICE}
    answers: dict[str, Counter[str]] = {kind: Counter() for kind in MULTIPLE_CHOICE}
    for index in SCENES:
        for kind in MULTIPLE_CHOICE:
            item = scene_of(index)[1][kind]
            letters[kind][item.ground_truth] += 1
            answers[kind][right(item)] += 1
    for kind in MULTIPLE_CHOICE:
        options = len(scene_of(0)[1][kind].options)
        assert set(letters[kind].values()) == {len(SCENES) // options}, kind
        if "direction" in kind:
            assert set(answers[kind].values()) == {len(SCENES) // options}, kind
    assert len(answers["route_planning"]) == 9
    assert max(answers["route_planning"].values()) == 2
