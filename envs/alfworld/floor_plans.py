"""The 120 rooms of AI2-THOR as far as the package ships them: which receptacles stand where, which objects occur."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import alfworld.gen.constants as alfred

#: The numbers of the floor plans of each kind of room.
ROOMS = {
    "Kitchen": range(1, 31),
    "LivingRoom": range(201, 231),
    "Bedroom": range(301, 331),
    "Bathroom": range(401, 431),
}
#: Of the thirty plans of each kind, the last ten are for valid_unseen alone.
_SEEN = 20

#: Types of things that stay where they are.
LAMPS = frozenset({"DeskLamp", "FloorLamp"})
_LAMP_STANDS = frozenset({"Desk", "SideTable", "Dresser", "TVStand", "DiningTable", "CoffeeTable", "Shelf"})
#: Receptacles that hold things and do not move.
RECEPTACLES = frozenset(alfred.RECEPTACLES) - frozenset(alfred.MOVABLE_RECEPTACLES_SET)
_OBJECTS = (frozenset(alfred.OBJECTS) | frozenset(alfred.MOVABLE_RECEPTACLES_SET)) - RECEPTACLES
_BASINS = {"Sink": "SinkBasin", "Bathtub": "BathtubBasin"}
_BASIN_TYPES = {*_BASINS, *_BASINS.values()}

#: x and z in steps of 0.25 m, rotation in quarter turns, horizon in degrees.
Pose = tuple[int, int, int, int]


@dataclass(frozen=True)
class FloorPlan:
    """A room without its objects.

    Attributes:
        number: of the floor plan.
        receptacles: type and pose of each, by id; several may share a pose.
        object_types: the types of things that occur in it, sorted.
    """

    number: int
    receptacles: dict[str, tuple[str, Pose]]
    object_types: tuple[str, ...]


def numbers(room: str, split: str) -> list[int]:
    """The floor plans of a kind of room that a split may use; valid_unseen shares none with the others."""
    return [n for n in ROOMS[room] if ((n - ROOMS[room][0]) >= _SEEN) == (split == "valid_unseen")]


@lru_cache(maxsize=128)
def floor_plan(number: int) -> FloorPlan:
    """A room.

    Receptacles that occur in a room but have no recorded pose, such as garbage cans, get spots of their own outside.
    """
    layouts = resources.files("alfworld") / "gen" / "layouts"
    poses = json.loads((layouts / f"FloorPlan{number}-openable.json").read_text())
    types = sorted(set(json.loads((layouts / f"FloorPlan{number}-objects.json").read_text())))
    receptacles: dict[str, tuple[str, Pose]] = {}
    for recorded, (x, z, rotation, horizon) in sorted(poses.items()):
        id_, kind = recorded, recorded.split("|")[0]
        if kind in _BASINS:  # recorded as "Sink|...|SinkBasin", with or without the end that the game names them by
            kind = _BASINS[kind]
            id_ = f"{id_.removesuffix(f'|{kind}')}|{kind}"
        if kind in RECEPTACLES:
            receptacles[id_] = kind, (round(x * 4), round(z * 4), rotation // 90, round(horizon))
    known = {kind for kind, _ in receptacles.values()}
    for index, kind in enumerate(t for t in types if t in RECEPTACLES - known - _BASIN_TYPES):
        receptacles[f"{kind}|+99.00|+00.00|{index:+06.2f}"] = kind, (400, 4 * index, 0, 30)
    return FloorPlan(number, receptacles, tuple(t for t in types if t in _OBJECTS))


def places(kind: str, plan: FloorPlan) -> list[str]:
    """The receptacles of a room that may hold a thing of a type."""
    if kind in LAMPS:
        return [id_ for id_, (t, _) in plan.receptacles.items() if t in _LAMP_STANDS]
    return [id_ for id_, (t, _) in plan.receptacles.items() if kind in alfred.VAL_RECEPTACLE_OBJECTS.get(t, ())]


def reduced(plan: FloorPlan, rng: random.Random) -> FloorPlan:
    """A part of a room: three or four receptacles, no two of one type or at one spot, at most one that opens."""
    chosen: dict[str, tuple[str, Pose]] = {}
    size = rng.randint(3, 4)
    for id_ in rng.sample(sorted(plan.receptacles), len(plan.receptacles)):
        kind, pose = plan.receptacles[id_]
        clash = any(
            kind == other or pose == spot or {kind, other} <= alfred.OPENABLE_CLASS_SET
            for other, spot in chosen.values()
        )
        if len(chosen) < size and not clash:
            chosen[id_] = kind, pose
    return FloorPlan(plan.number, dict(sorted(chosen.items())), plan.object_types)
