"""Games made from the floor plans that the package ships: a function of split, task, rooms and number, nothing else.

As in ALFRED, rooms are real and what lies where is drawn. A layout belongs to train or to valid_seen by its digest, so
that the two share rooms and never a game; valid_unseen has rooms of its own.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import alfworld.gen.constants as alfred
from alfworld.gen.goal_library import gdict as goal_library
from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH

from envs.alfworld.floor_plans import LAMPS, FloorPlan, floor_plan, numbers, places, reduced
from envs.alfworld.game import Game, Goal
from envs.alfworld.problem import Layout, Targets, write_problem

#: One layout in so many is for valid_seen, the others are for train.
_SEEN_SHARE = 4
#: Many floor plans lack what a task needs, such as a lamp or a second shelf; no game takes a tenth of these.
_ATTEMPTS = 1000


@dataclass(frozen=True)
class GameId:
    """Which game.

    Attributes:
        split: one of `envs.alfworld.game.SPLITS`.
        task: one of `envs.alfworld.game.TASKS`.
        rooms: "all" for whole rooms, "small" for parts of rooms with few things.
        number: from 0.
    """

    split: str
    task: str
    rooms: str
    number: int


def drafts(game_id: GameId) -> Iterator[Game]:
    """Candidates for a game, always the same ones in the same order; the first that can be won in time is the game."""
    for attempt in range(_ATTEMPTS):
        # A text seeds Python's generator by its SHA-512, whatever the machine.
        rng = random.Random(f"{game_id.split}/{game_id.task}/{game_id.rooms}/{game_id.number}/{attempt}")
        game = _draft(game_id, rng)
        if game is not None:
            yield game


def _draft(game_id: GameId, rng: random.Random) -> Game | None:
    room = rng.choice(sorted(alfred.GOALS_VALID[game_id.task]))
    plan = floor_plan(rng.choice(numbers(room, game_id.split)))
    small = game_id.rooms == "small"
    layout = _furnish(reduced(plan, rng) if small else plan, rng, small=small)
    options = _targets(game_id.task, layout)
    if not options:
        return None
    targets = rng.choice(options)
    layout = _spread(layout, targets, rng)
    problem = write_problem(layout, game_id.task, targets)
    if game_id.split != "valid_unseen" and (_is_seen(problem) != (game_id.split == "valid_seen")):
        return None
    goal = Goal(game_id.task, targets.object.lower(), targets.parent.lower(), targets.toggle.lower())
    template = rng.choice(goal_library[game_id.task]["templates"])
    text = template.format(obj=goal.object, recep=goal.parent, toggle=goal.toggle, mrecep="")
    domain, grammar = logic()
    return Game(goal, text, domain, problem, grammar)


def _is_seen(problem: str) -> bool:
    return hashlib.sha256(problem.encode()).digest()[0] % _SEEN_SHARE == 0


def _furnish(plan: FloorPlan, rng: random.Random, *, small: bool) -> Layout:
    """Puts things into a room: one to three of each type that occurs in it, or two or three things in all."""
    kinds = [kind for kind in plan.object_types if places(kind, plan)]
    if small:
        kinds = [kind for kind in kinds if kind not in LAMPS]
        kinds = sorted(rng.sample(kinds, min(len(kinds), rng.randint(2, 3))))
    objects, placed = {}, {}
    for kind in kinds:
        for number in range(1 if small or kind in LAMPS else rng.randint(1, 3)):
            id_ = f"{kind}|+00.00|+00.00|{number:+06.2f}"
            objects[id_], placed[id_] = kind, rng.choice(places(kind, plan))
    return Layout(plan, objects, placed)


def _targets(task: str, layout: Layout) -> list[Targets]:
    """Everything that a task can be about in a room."""
    count = Counter(layout.objects.values())
    kinds = [kind for kind in sorted(count) if kind not in LAMPS]
    present = {kind for kind, _ in layout.plan.receptacles.values()}
    if task == "look_at_obj_in_light":
        return [Targets(kind, toggle=lamp) for kind in kinds for lamp in sorted(LAMPS & set(count))]
    for name, appliance, affordance in (
        ("clean", "SinkBasin", "Cleanable"),
        ("heat", "Microwave", "Heatable"),
        ("cool", "Fridge", "Coolable"),
    ):
        if task.startswith(f"pick_{name}_"):
            kinds = [kind for kind in kinds if appliance in present and kind in alfred.VAL_ACTION_OBJECTS[affordance]]
    if task == "pick_two_obj_and_place":
        kinds = [kind for kind in kinds if count[kind] > 1]
    return [
        Targets(kind, parent)
        for kind in kinds
        for parent in sorted(present)
        if kind in alfred.VAL_RECEPTACLE_OBJECTS.get(parent, ())
        # An object that fits nowhere else would be where it belongs from the start.
        and any(layout.plan.receptacles[place][0] != parent for place in places(kind, layout.plan))
    ]


def _spread(layout: Layout, targets: Targets, rng: random.Random) -> Layout:
    """The layout with the goal's objects moved out of where they belong."""
    receptacles = layout.plan.receptacles
    elsewhere = [place for place in places(targets.object, layout.plan) if receptacles[place][0] != targets.parent]
    placed = {
        id_: rng.choice(elsewhere)
        if layout.objects[id_] == targets.object and receptacles[place][0] == targets.parent
        else place
        for id_, place in layout.placed.items()
    }
    return Layout(layout.plan, layout.objects, placed)


@cache
def logic() -> tuple[str, str]:
    """Domain and grammar, as the package ships them."""
    return Path(ALFRED_PDDL_PATH).read_text(), Path(ALFRED_TWL2_PATH).read_text()
