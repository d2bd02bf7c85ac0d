"""What each MiniWorld task asks for, in words.

The goals follow the `step` method of each class of `miniworld.envs` (miniworld 2.1.0), which decides the reward; the
package's own descriptions leave out when an episode counts as solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.base import PromptStyle, answer_format

#: Names of `MiniWorldEnv.Actions`, in its order; an environment takes the first `action_space.n` of them.
ACTION_NAMES: dict[PromptStyle, tuple[str, ...]] = {
    "full": ("turn left", "turn right", "move forward", "move back", "pick up", "drop", "toggle", "done"),
    "terse": ("left", "right", "forward", "back", "pickup", "drop", "toggle", "done"),
}
#: Sign replaces the fourth action by its own.
SIGN_ACTION_NAMES: dict[PromptStyle, tuple[str, ...]] = {
    "full": ("turn left", "turn right", "move forward", "end episode"),
    "terse": ("left", "right", "forward", "end"),
}


@dataclass(frozen=True)
class Task:
    """The words of one task.

    Attributes:
        goal: what earns the reward, for a pretrained model. `{shape}` is filled with Sign's goal.
        terse: the same in as few words as can be.
    """

    goal: str
    terse: str


_BOX = Task("Walk up to the red box; the fewer steps, the higher the reward.", "go to the red box.")
_NOTHING = Task(
    "Look around and walk through the place. No action is rewarded here and no task can be completed.", "look around."
)

TASKS: dict[str, Task] = {
    "OneRoom": _BOX,
    "OneRoomS6": _BOX,
    "OneRoomS6Fast": _BOX,
    "Hallway": Task(
        "Walk to the red box at the end of the hallway; the fewer steps, the higher the reward.", "go to the red box."
    ),
    "FourRooms": Task(
        "Find the red box in one of four connected rooms and walk up to it; the fewer steps, the higher the reward.",
        "go to the red box.",
    ),
    **dict.fromkeys(
        ("Maze", "MazeS2", "MazeS3", "MazeS3Fast"),
        Task(
            "Find the red box in the maze and walk up to it; the fewer steps, the higher the reward.",
            "go to the red box.",
        ),
    ),
    **dict.fromkeys(
        ("TMaze", "TMazeLeft", "TMazeRight", "YMaze", "YMazeLeft", "YMazeRight"),
        Task(
            "Walk down the hallway to the junction, find the red box at the end of one of the two arms and walk up to "
            "it; the fewer steps, the higher the reward.",
            "go to the red box.",
        ),
    ),
    "WallGap": Task(
        "Pass through the gap in the wall and walk up to the red box behind it; the fewer steps, the higher the "
        "reward.",
        "go to the red box.",
    ),
    "Sidewalk": Task(
        "Walk along the sidewalk up to the red box. Stepping into the street ends the episode without a reward; the "
        "fewer steps, the higher the reward.",
        "go to the red box. avoid the street.",
    ),
    "Sign": Task(
        "A sign on a wall shows the name of a color. Walk up to the {shape} of that color. Touching any other object "
        "costs 1 point and ends the episode.",
        "go to the {shape} of the color on the sign.",
    ),
    "PickupObjects": Task(
        "Pick up every object in the room; each one earns 1 point and disappears. Walk up to an object until you "
        "touch it, then pick it up.",
        "pick up all objects.",
    ),
    "PutNext": Task(
        "Put the red box next to the yellow box: pick the red box up, carry it over and drop it there; the fewer "
        "steps, the higher the reward.",
        "put the red box next to the yellow box.",
    ),
    "CollectHealth": Task(
        "Stay alive. Your health falls by 2 of 100 points at every step, and picking up a medkit restores it. Each "
        "step alive earns 2 points, dying costs 100.",
        "pick up medkits to stay alive.",
    ),
    "RoomObjects": _NOTHING,
    "ThreeRooms": _NOTHING,
}


def instruction(style: PromptStyle, task: Task, shape: str = "") -> str:
    """What is to be done.

    Args:
        style: "full" or "terse".
        task: the task's words.
        shape: Sign's goal, "box" or "key".
    """
    return (task.terse if style == "terse" else task.goal).format(shape=shape)


def prompt(style: PromptStyle, task: str, actions: Sequence[str]) -> str:
    """The instruction, the accepted actions and, in full style, what the frames are and the answer format.

    Args:
        style: "full" or "terse".
        task: the instruction.
        actions: names of the accepted actions.
    """
    if style == "terse":
        return f"{task} actions: {', '.join(actions)}."
    return (
        "You control a robot in a 3D world and see through its camera.\n"
        f"Your task: {task}\n"
        "The images are the latest camera frames, oldest first; the last one is what you see now.\n"
        f"Possible actions: {', '.join(actions)}.\n"
        "Say briefly what you see and what to do about it, then choose one action. "
        f"Answer with one JSON object and nothing else: {answer_format()}"
    )
