"""What a game is: a problem, the words it is told in, and what its goal is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envs.base import SimulatorError

#: The task types, in the order of alfworld's configuration.
TASKS = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
SPLITS = ("train", "valid_seen", "valid_unseen")
#: What stands for the task in the grammar that the package ships.
PLACEHOLDER = "UNKNOWN GOAL"


@dataclass(frozen=True)
class Goal:
    """What a game is about, as in ALFRED's `traj_data.json`.

    Attributes:
        task: one of `TASKS`.
        object: type of the object, in lower case, such as "mug".
        parent: type of the receptacle that it belongs in; empty for look_at_obj_in_light.
        toggle: type of the lamp; empty for every other task.
    """

    task: str
    object: str
    parent: str = ""
    toggle: str = ""

    @property
    def treatment(self) -> str:
        """What has to be done to the object: "clean", "heat", "cool" or nothing."""
        return next((verb for verb in ("clean", "heat", "cool") if self.task.startswith(f"pick_{verb}_")), "")

    @property
    def count(self) -> int:
        """How many objects have to be placed."""
        return 2 if self.task == "pick_two_obj_and_place" else 1


@dataclass(frozen=True)
class Game:
    """A game that `Engine` can run.

    Attributes:
        goal: see there.
        text: the task, as the introduction tells it.
        domain: in PDDL.
        problem: in PDDL.
        grammar: in textworld's twl2 format; the task may still be `PLACEHOLDER` in it.
    """

    goal: Goal
    text: str
    domain: str
    problem: str
    grammar: str


def goal_of(trajectory: Any) -> Goal:
    """The goal that ALFRED's `traj_data.json` describes.

    Raises:
        SimulatorError: it describes none that can be played.
    """
    try:
        parameters = trajectory["pddl_params"]
        task, names = str(trajectory["task_type"]), ("object_target", "parent_target", "toggle_target")
        targets = [str(parameters[name] or "").lower() for name in names]
    except (KeyError, TypeError) as error:
        raise SimulatorError(f"traj_data.json does not describe a task: {error!r} is missing or not a table") from error
    if task not in TASKS:
        raise SimulatorError(f"traj_data.json has the task type {task!r}; the types are {', '.join(TASKS)}")
    return Goal(task, *targets)
