"""A player that knows what the episode has revealed, and no more."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import alfworld.gen.constants as alfred

from envs.alfworld.game import Goal
from envs.alfworld.knowledge import Knowledge, Receptacle, by_type_and_number, type_of

#: Where each treatment is done, and the state that it leaves.
APPLIANCES = {"clean": ("sinkbasin", "clean"), "heat": ("microwave", "hot"), "cool": ("fridge", "cool")}
#: How games put something down: since December 2024 (alfworld 0.4), and before.
_PLACING = (("move", "to"), ("put", "in/on"))


def next_command(goal: Goal, known: Knowledge, commands: Collection[str]) -> str | None:
    """The next command of a player that searches likely places first and puts down what it does not need.

    It keeps no plan: whatever has happened before, this is what to do now.

    Args:
        goal: of the game.
        known: what has been revealed.
        commands: what the game accepts now.

    Returns:
        One of `commands`, or None where everything has been searched in vain.
    """
    if known.holding is None:
        command = _fetch(goal, known, commands)
    elif type_of(known.holding) != goal.object:
        command = _put_back(known, commands)
    elif goal.toggle:
        command = _light(goal, known, commands)
    else:
        command = _treat_and_place(goal, known, commands)
    return command if command in commands else None


def _fetch(goal: Goal, known: Knowledge, commands: Collection[str]) -> str | None:
    """Takes an object that is not yet where it belongs, or looks for one."""
    seen = misplaced(goal, known, goal.object)
    here = next((thing for thing, place in seen.items() if f"take {thing} from {place}" in commands), None)
    if here is not None:
        return f"take {here} from {seen[here]}"
    if seen:
        return _reach(known.receptacles[next(iter(seen.values()))], known, commands)
    return _search(goal.object, known, commands)


def _light(goal: Goal, known: Knowledge, commands: Collection[str]) -> str | None:
    lamps = known.where(goal.toggle)
    here = next((lamp for lamp in lamps if f"use {lamp}" in commands), None)
    if here is not None:
        return f"use {here}"
    if lamps:
        return f"go to {next(iter(lamps.values()))}"
    return _search(goal.toggle, known, commands)


def _treat_and_place(goal: Goal, known: Knowledge, commands: Collection[str]) -> str | None:
    held = known.holding
    assert held is not None
    if goal.treatment and APPLIANCES[goal.treatment][1] not in known.states.get(held, ()):
        places = [place.name for place in known.of_type(APPLIANCES[goal.treatment][0])]
        here = next((place for place in places if f"{goal.treatment} {held} with {place}" in commands), None)
        if here is not None:
            return f"{goal.treatment} {held} with {here}"
        return f"go to {places[0]}" if places else None
    place = destination(goal, known)
    return None if place is None else _put(held, place, known, commands)


def _put_back(known: Knowledge, commands: Collection[str]) -> str | None:
    held = known.holding
    if held is None:
        return None
    openings = tuple(f"{verb} {held} {preposition} " for verb, preposition in _PLACING)
    here = next((command for command in sorted(commands) if command.startswith(openings)), None)
    if here is not None or known.taken_from is None:
        return here
    return _put(held, known.receptacles[known.taken_from], known, commands)


def _put(held: str, place: Receptacle, known: Knowledge, commands: Collection[str]) -> str:
    placing = (f"{verb} {held} {preposition} {place.name}" for verb, preposition in _PLACING)
    return next((command for command in placing if command in commands), None) or _reach(place, known, commands)


def destination(goal: Goal, known: Knowledge) -> Receptacle | None:
    """The receptacle to place objects in: where most of them are, then where the agent stands, then the first."""

    def preference(place: Receptacle) -> tuple[int, bool]:
        return sum(type_of(thing) == goal.object for thing in place.contents or ()), place.name == known.at

    return max(known.of_type(goal.parent), key=preference, default=None)


def misplaced(goal: Goal, known: Knowledge, kind: str) -> dict[str, str]:
    """The things of a type that have been seen and are still needed, and the receptacles that they are in."""
    placed = destination(goal, known) if goal.count > 1 else None
    return {thing: place for thing, place in known.where(kind).items() if placed is None or place != placed.name}


def _search(kind: str, known: Knowledge, commands: Collection[str]) -> str | None:
    """Looks into the likeliest receptacle that nobody has looked into."""
    here = known.receptacles.get(known.at or "")
    if here is not None and here.contents is None:
        return _reach(here, known, commands)

    def cost(place: Receptacle) -> tuple[bool, bool, tuple[str, int]]:
        likely = kind in _things_in().get(type_of(place.name), ())
        return not likely, type_of(place.name) in _openable(), by_type_and_number(place.name)

    best = min(known.unsearched(), key=cost, default=None)
    return None if best is None else _reach(best, known, commands)


def _reach(place: Receptacle, known: Knowledge, commands: Collection[str]) -> str:
    """Goes to a receptacle and opens it."""
    opening = f"open {place.name}"
    return opening if opening in commands else f"go to {place.name}"


@cache
def _things_in() -> dict[str, frozenset[str]]:
    """Which types of things ALFRED puts into which types of receptacles."""
    lamps = {"desklamp", "floorlamp"}
    stands = {"desk", "sidetable", "dresser", "tvstand", "diningtable", "coffeetable", "shelf"}
    table = {place.lower(): {t.lower() for t in things} for place, things in alfred.VAL_RECEPTACLE_OBJECTS.items()}
    return {place: frozenset(things | (lamps if place in stands else set())) for place, things in table.items()}


@cache
def _openable() -> frozenset[str]:
    return frozenset(kind.lower() for kind in alfred.OPENABLE_CLASS_SET)
