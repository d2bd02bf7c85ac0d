"""A furnished room and a camera that turns once around in it: what the synthetic VSI-Bench asks about.

Everything is in meters, x to the east, y up and z to the south as in MiniWorld; headings are in radians from east,
positive to the left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

#: MiniWorld's, but for gray: its gray ball is white.
COLORS = ("red", "green", "blue", "purple", "yellow")
CAMERA_HEIGHT = 1.5
#: Radians below the horizon.
CAMERA_TILT = math.radians(15)
#: Vertical field of view, in radians, and width over height of a frame.
FIELD_OF_VIEW, ASPECT = math.radians(60), 4 / 3
#: The camera looks across the middle of the room from this far behind it.
CAMERA_RADIUS = 0.6
#: Between things, and between things and walls.
_CLEARANCE = 0.25
_UNIQUE_THINGS, _MOST_COPIES = 6, 4
#: Between which a side of the room is.
SIDES = (5.5, 9.0)
#: How often a place for a thing is drawn.
_TRIES = 30
#: Degrees from the first heading, on the way of the turn, between which four things stand: without this, few scenes
#: have four things that come into sight one after the other.
_ARCS = ((-25, 25), (102, 120), (182, 200), (262, 280))


@dataclass(frozen=True)
class Thing:
    """A box with sides along the walls, or a ball; it stands on the floor.

    Attributes:
        color: one of `COLORS`.
        shape: a ball has three equal sizes, its diameter.
        x: of the center.
        z: of the center.
        size: along x, y and z.
    """

    color: str
    shape: Literal["box", "ball"]
    x: float
    z: float
    size: tuple[float, float, float]

    @property
    def name(self) -> str:
        """Such as "red box"."""
        return f"{self.color} {self.shape}"

    @property
    def low(self) -> Vector:
        """The corner of the bounding box with the least coordinates."""
        return np.array([self.x - self.size[0] / 2, 0.0, self.z - self.size[2] / 2])

    @property
    def high(self) -> Vector:
        """The corner of the bounding box with the greatest coordinates."""
        return self.low + self.size


@dataclass(frozen=True)
class Scene:
    """A room of `width` along x and `depth` along z around the origin, its things, and the camera's turn.

    Attributes:
        width: of the room.
        depth: of the room.
        things: several of one name, and `_UNIQUE_THINGS` with a name of their own.
        start: the first heading.
        turn: 1 to the left, -1 to the right.
    """

    width: float
    depth: float
    things: tuple[Thing, ...]
    start: float
    turn: Literal[1, -1]

    @property
    def unique(self) -> tuple[Thing, ...]:
        """The things whose name no other thing has."""
        names = [thing.name for thing in self.things]
        return tuple(thing for thing in self.things if names.count(thing.name) == 1)

    def camera(self, share: float) -> tuple[Vector, float]:
        """Position and heading of the camera when it has done this share, in [0, 1), of its turn."""
        heading = self.start + self.turn * 2 * math.pi * share
        return np.array([-math.cos(heading), 0.0, math.sin(heading)]) * CAMERA_RADIUS + [0, CAMERA_HEIGHT, 0], heading


def draw_scene(rng: np.random.Generator, sides: tuple[float, float] = SIDES) -> Scene | None:
    """Draws a room with sides between two lengths and its things, or None where they do not find room."""
    width, depth = (round(float(side), 1) for side in rng.uniform(*sides, 2))
    start = float(rng.uniform(-math.pi, math.pi))
    turn: Literal[1, -1] = 1 if rng.random() < 0.5 else -1
    kinds = [(color, shape) for color in COLORS for shape in ("box", "ball")]
    chosen = [kinds[index] for index in rng.permutation(len(kinds))[: _UNIQUE_THINGS + 1]]
    copied = chosen.pop()
    arcs = [*_ARCS, *[(-180, 180)] * (_UNIQUE_THINGS - len(_ARCS))]
    places = [(kind, _size(rng, kind[1]), arc) for kind, arc in zip(chosen, arcs, strict=True)]
    places += [(copied, _size(rng, copied[1]), (-180, 180))] * int(rng.integers(2, _MOST_COPIES + 1))
    things: list[Thing] = []
    for (color, shape), size, arc in places:
        bearings = tuple(sorted(start + turn * math.radians(edge) for edge in arc))
        thing = _place(rng, Thing(color, shape, 0.0, 0.0, size), bearings, (width, depth), things)
        if thing is None:
            return None
        things.append(thing)
    return Scene(width, depth, tuple(things), start, turn)


def gap(a: Thing, b: Thing) -> float:
    """Meters between the closest points of two things."""
    # A ball is its center, thickened; what is left of either thing is a box.
    radii = [thing.size[0] / 2 if thing.shape == "ball" else 0.0 for thing in (a, b)]
    apart = np.maximum(b.low + radii[1] - (a.high - radii[0]), a.low + radii[0] - (b.high - radii[1]))
    return max(float(np.linalg.norm(np.maximum(apart, 0))) - sum(radii), 0.0)


def _size(rng: np.random.Generator, shape: str) -> tuple[float, float, float]:
    """To the centimeter."""
    if shape == "ball":
        diameter = round(float(rng.uniform(0.35, 0.9)), 2)
        return diameter, diameter, diameter
    x, y, z = (round(float(side), 2) for side in rng.uniform(0.3, 1.2, 3))
    return x, y, z


def _place(
    rng: np.random.Generator,
    thing: Thing,
    bearings: Sequence[float],
    room: tuple[float, float],
    others: Sequence[Thing],
) -> Thing | None:
    """Puts a thing between two bearings from the middle, away from the camera, the walls and other things."""
    half = np.array([thing.size[0], thing.size[2]]) / 2
    walls = np.array(room) / 2 - half - _CLEARANCE
    nearest = CAMERA_RADIUS + 0.8 + float(np.linalg.norm(half))
    for _ in range(_TRIES):
        bearing, distance = rng.uniform([bearings[0], nearest], [bearings[1], math.hypot(*room) / 2])
        x, z = distance * math.cos(bearing), -distance * math.sin(bearing)
        placed = replace(thing, x=float(x), z=float(z))
        if (np.abs([x, z]) <= walls).all() and all(gap(placed, other) > _CLEARANCE for other in others):
            return placed
    return None
