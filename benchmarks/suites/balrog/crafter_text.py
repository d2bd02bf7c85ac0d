"""A frame of Crafter in words.

Source: balrog-ai/BALROG, `balrog/environments/crafter/env.py`, with its settings `unique_items` and without precise
locations; the texts are the same to the letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import crafter
import numpy as np
from numpy.typing import NDArray

VITALS = ("health", "food", "drink", "energy")


@cache
def names() -> tuple[str, ...]:
    """The names of the numbers in Crafter's semantic map: materials, then kinds of creatures."""
    env = crafter.Env(area=(9, 9), seed=0)
    ids: dict[Any, int] = env._world._mat_ids | env._sem_view._obj_ids
    return tuple(
        kind.__name__.lower() if isinstance(kind, type) else str(kind)
        for kind in sorted(ids, key=lambda kind: ids[kind])
    )


def describe_scene(
    semantic: NDArray[np.integer[Any]], position: tuple[int, int], facing: tuple[int, int], view: tuple[int, int]
) -> str:
    """The nearest thing of each kind in view, and what the player faces.

    Within four steps of the western or three of the northern edge of the map the original cuts its window at a
    negative index, which leaves it empty: there the player sees nothing.

    Args:
        semantic: (W, H) of numbers that `names` explains.
        position: of the player.
        facing: the step that the player looks along.
        view: width and height of the view; the lowest two rows show the inventory.
    """
    (x, y), half_width, half_height = position, view[0] // 2, view[1] // 2 - 1
    window = semantic[x - half_width : x + half_width + 1, y - half_height : y + half_height + 1]
    nearest: dict[str, tuple[int, str]] = {}
    for name, place in _things(window, half_width, half_height):
        if name not in nearest or place[0] < nearest[name][0]:
            nearest[name] = place
    lines = [f"- {name} {distance} step{'s' if distance > 1 else ''} to your {where}"
             for name, (distance, where) in nearest.items()]  # fmt: skip
    seen = "You see:\n" + "\n".join(lines) if lines else "You see nothing away from you."
    ahead = half_width + facing[0], half_height + facing[1]
    inside = 0 <= ahead[0] < window.shape[0] and 0 <= ahead[1] < window.shape[1]
    return f"{seen}\n\nYou face {names()[window[ahead]] if inside else 'nothing'} at your front."


def _things(window: NDArray[np.integer[Any]], x: int, y: int) -> Iterator[tuple[str, tuple[int, str]]]:
    """Each cell of the window but the player's: its name, its distance in steps and its direction from (x, y)."""
    for column, row in np.ndindex(window.shape):
        name = names()[window[column, row]]
        if name == "player":
            continue
        east, south = column - x, row - y
        directions = ["north"] * (south < 0) + ["south"] * (south > 0) + ["west"] * (east < 0) + ["east"] * (east > 0)
        yield name, (abs(east) + abs(south), "-".join(directions))


def describe_state(sleeping: bool, health: float) -> str:
    """That the player sleeps or is dead, or nothing."""
    if sleeping:
        return "You are sleeping, and will not be able take actions until energy is full.\n\n\n\n"
    return "You died.\n\n\n\n" if health <= 0 else ""


def describe_inventory(inventory: Mapping[str, int]) -> str:
    """The four vital signs and what the player carries."""
    status = "\n".join(f"- {name}: {inventory[name]}/9" for name in VITALS)
    carried = "\n".join(f"- {name}: {count}" for name, count in inventory.items() if name not in VITALS and count)
    things = f"Your inventory:\n{carried}" if carried else "You have nothing in your inventory."
    return f"Your status:\n{status}\n\n{things}"
