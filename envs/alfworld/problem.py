"""Writes a room and a goal as a PDDL problem of the domain that the package ships."""

from __future__ import annotations

import re
from dataclasses import dataclass

import alfworld.gen.constants as alfred
from alfworld.gen.goal_library import gdict as goal_library

from envs.alfworld.floor_plans import LAMPS, FloorPlan, Pose

#: How ids are written in PDDL, as in ALFRED's generator; `alfworld`'s Demangler reads them back.
_ESCAPES = {"-": "_minus_", "#": "-", "|": "_bar_", "+": "_plus_", ".": "_dot_", ",": "_comma_"}
#: Types that the domain names; a problem has to declare them.
_DOMAIN_TYPES = {"object": {"Knife", "ButterKnife"}, "receptacle": {"SinkBasin", "Microwave", "Fridge"}}
_PROPERTIES = ("Cleanable", "Heatable", "Coolable", "Toggleable", "Sliceable")


@dataclass(frozen=True)
class Layout:
    """A room with its things.

    Attributes:
        plan: the room.
        objects: type of each thing, by id.
        placed: the receptacle that each thing is in, by id.
    """

    plan: FloorPlan
    objects: dict[str, str]
    placed: dict[str, str]


@dataclass(frozen=True)
class Targets:
    """The types that a goal is about, as ALFRED spells them; empty where a task has none."""

    object: str
    parent: str = ""
    toggle: str = ""


def write_problem(layout: Layout, task: str, targets: Targets) -> str:
    """The PDDL problem of a layout and a goal."""
    receptacles, objects = layout.plan.receptacles, layout.objects
    start = _free_spot({pose for _, pose in receptacles.values()})
    spots = sorted({_spot(pose) for _, pose in receptacles.values()} | {_spot(start)})
    object_types = sorted({*objects.values(), *_DOMAIN_TYPES["object"], targets.object} | {targets.toggle} - {""})
    receptacle_types = sorted(
        {t for t, _ in receptacles.values()} | _DOMAIN_TYPES["receptacle"] | {targets.parent} - {""}
    )
    lines = [
        "(define (problem alfworld)",
        "(:domain alfred)",
        "(:objects",
        "agent1 # agent",
        *(f"{t}Type # otype" for t in object_types),
        *(f"{t}Type # rtype" for t in receptacle_types),
        *(f"{id_} # object" for id_ in sorted(objects)),
        *(f"{id_} # receptacle" for id_ in sorted(receptacles)),
        *(f"{spot} # location" for spot in spots),
        ")",
        "(:init",
        f"(atLocation agent1 {_spot(start)})",
        *_about_receptacles(layout),
        *_about_objects(layout),
        ")",
    ]
    goal = goal_library[task]["pddl"].format(obj=targets.object, recep=targets.parent, toggle=targets.toggle, mrecep="")
    return _escape("\n".join(lines) + "\n") + _escape(goal)


def _about_receptacles(layout: Layout) -> list[str]:
    present = set(layout.objects.values())
    facts = []
    for id_, (kind, pose) in sorted(layout.plan.receptacles.items()):
        facts += [f"(receptacleType {id_} {kind}Type)", f"(receptacleAtLocation {id_} {_spot(pose)})"]
        if kind in alfred.OPENABLE_CLASS_SET:
            facts.append(f"(openable {id_})")
    for kind in sorted({kind for kind, _ in layout.plan.receptacles.values()}):
        held = sorted(present & set(alfred.VAL_RECEPTACLE_OBJECTS.get(kind, ())))
        facts += [f"(canContain {kind}Type {thing}Type)" for thing in held]
    return facts


def _about_objects(layout: Layout) -> list[str]:
    facts = []
    for id_, kind in sorted(layout.objects.items()):
        place = layout.placed[id_]
        spot = _spot(layout.plan.receptacles[place][1])
        facts += [f"(objectType {id_} {kind}Type)", f"(inReceptacle {id_} {place})", f"(objectAtLocation {id_} {spot})"]
        if kind not in LAMPS:
            facts.append(f"(pickupable {id_})")
        if kind in alfred.MOVABLE_RECEPTACLES_SET:
            facts.append(f"(isReceptacleObject {id_})")
        facts += [f"({name.lower()} {id_})" for name in _PROPERTIES if kind in alfred.VAL_ACTION_OBJECTS[name]]
    return facts


def _free_spot(taken: set[Pose]) -> Pose:
    """The middle of the room, or the nearest spot beside it where no receptacle can be reached."""
    return next(spot for spot in ((x, 0, 0, 30) for x in range(len(taken) + 1)) if spot not in taken)


def _spot(pose: Pose) -> str:
    return "loc|" + "|".join(str(number) for number in pose)


def _escape(text: str) -> str:
    return re.sub(r"[-#|+.,]", lambda match: _ESCAPES[match.group()], text)
