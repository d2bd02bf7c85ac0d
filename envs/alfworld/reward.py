"""How much of a goal is met: ALFRED's goal conditions, counted on the facts of the game."""

from __future__ import annotations

from envs.alfworld.facts import Facts
from envs.alfworld.game import Goal

#: The fact that each treatment leaves behind.
_TREATED = {"clean": "isclean", "heat": "ishot", "cool": "iscool"}


def goal_conditions(goal: Goal, facts: Facts) -> tuple[int, int]:
    """How many of a goal's conditions hold, and how many there are.

    The conditions are those of `goal_conditions_met` in `alfworld/env/tasks.py`, where objects are never sliced:

    - pick_and_place_simple, of 1: an object of the type is in a receptacle of the type.
    - pick_two_obj_and_place, of 2: the most objects of the type in one receptacle of the type, at most 2.
    - look_at_obj_in_light, of 2: such an object is held; a lamp of the type, where the agent stands, has been used.
    - pick_clean/heat/cool_then_place_in_recep, of 3: such an object is in such a receptacle; one is clean (hot, cool);
      one is both.
    """
    objects = {thing for thing, kind in facts.of("objecttype") if kind == f"{goal.object}type"}
    if goal.toggle:
        held = any(thing in objects for _, thing in facts.of("holds"))
        return int(held) + int(_lamp_is_lit(goal, facts)), 2
    receptacles = {place for place, kind in facts.of("receptacletype") if kind == f"{goal.parent}type"}
    placed = [(thing, place) for thing, place in facts.of("inreceptacle") if thing in objects and place in receptacles]
    if goal.count == 2:
        return min(max((sum(at == place for _, at in placed) for place in receptacles), default=0), 2), 2
    if not goal.treatment:
        return int(bool(placed)), 1
    treated = {thing for (thing,) in facts.of(_TREATED[goal.treatment]) if thing in objects}
    return bool(placed) + bool(treated) + any(thing in treated for thing, _ in placed), 3


def _lamp_is_lit(goal: Goal, facts: Facts) -> bool:
    here = {location for _, location in facts.of("atlocation")}
    near = {place for place, location in facts.of("receptacleatlocation") if location in here}
    used = {lamp for (lamp,) in facts.of("istoggled") if (lamp, f"{goal.toggle}type") in set(facts.of("objecttype"))}
    return any(thing in used and place in near for thing, place in facts.of("inreceptacle"))
