"""BabyAI's level MixedTrainLocal, which PyPI's minigrid lacks, drawn as BALROG's own minigrid draws it.

Source: flowersteam/Grounding_LLMs_with_online_RL (Carta et al. 2023, arXiv 2302.02662), in the version that BALROG
installs, BartekCupial/Minigrid, `minigrid/envs/babyai/mixed_seq_levels.py`: the same seed gives the same level. There
the kind of mission is drawn when the environment is made, and BALROG makes environments until it has the wanted kind;
here it is an argument.
"""

from __future__ import annotations

from typing import Any, get_args

from minigrid.core.roomgrid import RoomGrid
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core.levelgen import LevelGen
from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    BeforeInstr,
    GoToInstr,
    Instr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)

from benchmarks.suites.balrog.babyai_kinds import BabyAIKind

DOOR_COLORS = ("yellow", "green", "blue", "purple")
#: Missions that name one of these are drawn again: they are kept for tests of generalization.
HELD_OUT = ("yellow box", "red key", "red door", "green ball", "grey door")


class MixedTrainLocal(LevelGen):
    """One room, or two with a locked door between them where the mission is to open it.

    Args:
        kind: of mission.
        distractors: objects besides those of the mission; BALROG has none.
        **options: of `MiniGridEnv`.

    Raises:
        ValueError: there is no such kind of mission.
    """

    def __init__(self, kind: BabyAIKind, distractors: int = 0, **options: Any) -> None:
        if kind not in get_args(BabyAIKind):
            raise ValueError(f"BabyAI has no missions of the kind {kind!r}; choose {', '.join(get_args(BabyAIKind))}")
        self.kind = kind
        super().__init__(
            room_size=8,
            num_rows=1,
            num_cols=2 if kind == "open" else 1,
            num_dists=distractors,
            action_kinds=(kind,),
            locations=False,
            unblocking=False,
            implicit_unlock=False,
            **options,
        )

    def gen_mission(self) -> None:
        """Draws rooms, objects, agent and mission until all objects can be reached and no word is held out."""
        draw = self._draw_open if self.kind == "open" else self._draw_in_one_room
        while True:
            RoomGrid._gen_grid(self, self.width, self.height)
            reachable, self.instrs = draw()
            surface = self.instrs.surface(self)
            if reachable and not any(words in surface for words in HELD_OUT):
                return

    def _draw_open(self) -> tuple[bool, Instr]:
        color = self._rand_elem(DOOR_COLORS)
        self._add_locked_room(color)
        self.connect_all()
        for column in range(self.num_cols):
            if self.get_room(column, 0) is not self.locked_room:
                self.add_distractors(column, 0, num_distractors=self.num_dists, all_unique=False)
        self.place_agent()
        while self.room_from_pos(*self.agent_pos) is self.locked_room:
            self.place_agent()
        reachable = self.check_objs_reachable(raise_exc=False)
        return reachable, OpenInstr(ObjDesc("door", self._rand_elem([None, color])))

    def _add_locked_room(self, color: str) -> None:
        """Locks one of the rooms with a door of this color and lays the key into the other."""
        while True:
            column, row, side = self._rand_int(0, self.num_cols), self._rand_int(0, self.num_rows), self._rand_int(0, 4)
            self.locked_room = self.get_room(column, row)
            if self.locked_room.neighbors[side] is not None:
                break
        self.add_door(column, row, side, color=color, locked=True)
        while True:
            column, row = self._rand_int(0, self.num_cols), self._rand_int(0, self.num_rows)
            if self.get_room(column, row) is not self.locked_room:
                break
        self.add_object(column, row, "key", color)

    def _draw_in_one_room(self) -> tuple[bool, Instr]:
        self.place_agent()
        wanted = 1 if self.kind in ("goto", "pickup") else 2
        objects = self.add_distractors(num_distractors=self.num_dists + wanted, all_unique=False)
        reachable = self.check_objs_reachable(raise_exc=False)
        first = self._rand_elem(objects)
        if self.kind == "goto":
            return reachable, GoToInstr(_describe(first))
        if self.kind == "pickup":
            return reachable, PickupInstr(_describe(first))
        second = self._draw_second(first, objects)
        if self.kind == "putnext":
            return reachable, PutNextInstr(_describe(first), _describe(second))
        take, go = PickupInstr(_describe(first)), GoToInstr(_describe(second))
        if self._rand_elem(["Before", "After"]) == "Before":
            return reachable, BeforeInstr(take, go)
        return reachable, AfterInstr(go, take)

    def _draw_second(self, first: WorldObj, objects: list[WorldObj]) -> WorldObj:
        """An object that looks like the first one only where there are several that do."""
        second = self._rand_elem(objects)
        alike = sum(_look(thing) == _look(first) for thing in objects)
        while alike < 2 and _look(second) == _look(first):
            second = self._rand_elem(objects)
        return second


def _look(thing: WorldObj) -> tuple[str, str]:
    return thing.type, thing.color


def _describe(thing: WorldObj) -> ObjDesc:
    return ObjDesc(thing.type, thing.color)
