"""What an episode has revealed so far: the part of a game that may be shown, told or acted upon.

A receptacle is known by name from the start. Whether it can be opened, and what is in it, is known from when the agent
stands before it: the text says so on arrival, and the accepted commands go on saying it, also for what shares the spot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envs.alfworld.facts import Facts
from envs.alfworld.grammar import Entity

_STATES = {"isclean": "clean", "ishot": "hot", "iscool": "cool"}


@dataclass
class Receptacle:
    """A receptacle as far as it is known.

    Attributes:
        name: such as "drawer 2".
        openable: whether it can be opened and closed; None where the agent has not been there.
        open: whether it was open when last seen.
        contents: names of what was in it when last seen; None where nobody has looked.
    """

    name: str
    openable: bool | None = None
    open: bool = False
    contents: tuple[str, ...] | None = None

    @property
    def closed(self) -> bool:
        """Whether it is known to be closed."""
        return bool(self.openable) and not self.open


class Knowledge:
    """What has been revealed to the agent.

    Attributes:
        receptacles: by name, in the order of type and number.
        at: the receptacle that the agent stands before; None before it has gone anywhere.
        holding: name of what it holds, or None.
        taken_from: the receptacle from which it last took something, or None.
        states: of things that the agent has treated, such as {"mug 1": ("clean", "hot")}.
        lit: the lamps that are on.
    """

    def __init__(self, facts: Facts, entities: Mapping[str, Entity]) -> None:
        names = sorted((entities[r].name for r, _ in facts.of("receptacleatlocation")), key=by_type_and_number)
        self.receptacles = {name: Receptacle(name) for name in names}
        self.at: str | None = None
        self.holding: str | None = None
        self.taken_from: str | None = None
        self.states: dict[str, tuple[str, ...]] = {}
        self.lit: tuple[str, ...] = ()
        self.observe("", facts, entities)
        # Some official games begin before a receptacle, which the introduction then names.
        self.at = next((name for name, place in self.receptacles.items() if place.openable is not None), None)

    def observe(self, command: str, facts: Facts, entities: Mapping[str, Entity]) -> None:
        """Takes in what a command has revealed.

        Args:
            command: what was carried out, or nothing at the start.
            facts: what holds after it.
            entities: by id.
        """
        if command.startswith("go to "):
            self.at = command.removeprefix("go to ")
        if command.startswith("take "):
            self.taken_from = command.rpartition(" from ")[2]
        here = {location for _, location in facts.of("atlocation")}
        contents: dict[str, list[str]] = {r: [] for r, spot in facts.of("receptacleatlocation") if spot in here}
        for thing, receptacle in facts.of("inreceptacle"):
            if receptacle in contents:
                contents[receptacle].append(entities[thing].name)
        for id_, things in contents.items():
            seen = self.receptacles[entities[id_].name]
            seen.openable, seen.open = ("openable", id_) in facts, ("opened", id_) in facts
            if not seen.closed:
                seen.contents = tuple(sorted(things, key=by_type_and_number))
        self.holding = next((entities[thing].name for _, thing in facts.of("holds")), None)
        self.lit = tuple(entities[lamp].name for (lamp,) in facts.of("ison"))
        self.states = {}
        for predicate, state in _STATES.items():
            for (thing,) in facts.of(predicate):
                name = entities[thing].name
                self.states[name] = (*self.states.get(name, ()), state)

    def where(self, kind: str) -> dict[str, str]:
        """The things of a type that have been seen and lie somewhere, and the receptacles that they are in."""
        return {
            thing: receptacle.name
            for receptacle in self.receptacles.values()
            for thing in receptacle.contents or ()
            if type_of(thing) == kind
        }

    def of_type(self, kind: str) -> list[Receptacle]:
        """The receptacles of a type."""
        return [receptacle for name, receptacle in self.receptacles.items() if type_of(name) == kind]

    def unsearched(self) -> list[Receptacle]:
        """The receptacles that nobody has looked into."""
        return [receptacle for receptacle in self.receptacles.values() if receptacle.contents is None]


def type_of(name: str) -> str:
    """The type of a thing or receptacle, such as "mug" of "mug 1"."""
    return name.partition(" ")[0]


def by_type_and_number(name: str) -> tuple[str, int]:
    """What names are sorted by, so that "drawer 10" comes after "drawer 9"."""
    kind, _, number = name.partition(" ")
    return kind, int(number) if number.isdecimal() else 0
