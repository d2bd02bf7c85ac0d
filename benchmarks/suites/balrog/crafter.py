"""Crafter in words (Hafner 2022, arXiv 2109.06780).

Source: balrog-ai/BALROG, `balrog/environments/crafter`.
"""

from __future__ import annotations

from typing import Any

import crafter
import numpy as np

from benchmarks.suites.balrog.crafter_text import describe_inventory, describe_scene, describe_state
from benchmarks.suites.balrog.environment import Environment, Observation

VIEW = (9, 9)
SIZE = (256, 256)  # pixels
ACHIEVEMENTS = 22

_ACTIONS = {
    "Noop": "do nothing",
    "Move West": "walk west where the ground lets you",
    "Move East": "walk east where the ground lets you",
    "Move North": "walk north where the ground lets you",
    "Move South": "walk south where the ground lets you",
    "Do": "use what is in front of you: gather material, drink water, hit a creature",
    "Sleep": "sleep while your energy is not full",
    "Place Stone": "put a stone in front of you",
    "Place Table": "put up a table",
    "Place Furnace": "put up a furnace",
    "Place Plant": "plant a sapling",
    "Make Wood Pickaxe": "needs a table nearby, and wood in the inventory",
    "Make Stone Pickaxe": "needs a table nearby, and wood and stone in the inventory",
    "Make Iron Pickaxe": "needs a table and a furnace nearby, and wood, coal and iron in the inventory",
    "Make Wood Sword": "needs a table nearby, and wood in the inventory",
    "Make Stone Sword": "needs a table nearby, and wood and stone in the inventory",
    "Make Iron Sword": "needs a table and a furnace nearby, and wood, coal and iron in the inventory",
}
_GOALS = (
    "Collect Wood", "Place Table", "Eat Cow", "Collect Sapling", "Collect Drink", "Make Wood Pickaxe",
    "Make Wood Sword", "Place Plant", "Defeat Zombie", "Collect Stone", "Place Stone", "Eat Plant", "Defeat Skeleton",
    "Make Stone Pickaxe", "Make Stone Sword", "Wake Up", "Place Furnace", "Collect Coal", "Collect Iron",
    "Make Iron Pickaxe", "Make Iron Sword", "Collect Diamond",
)  # fmt: skip


class _Game(crafter.Env):
    """Crafter as its authors wrote it, but the same game for the same seed."""

    def _balance_chunk(self, chunk: tuple[int, int, int, int], objs: set[Any]) -> None:
        # Which creature vanishes is drawn from a set of objects, whose order is that of their memory addresses.
        super()._balance_chunk(chunk, [thing for thing in self._world.objects if thing in objs])


class Crafter(Environment):
    """Survive, gather and craft.

    Observations: the nearest thing of each kind and what the player faces; the inventory, which only the newest
    observation shows; the view, (256, 256, 3) uint8.

    Rewards: Crafter's, 1 for each new achievement and 0.1 for each change of health.

    Episodes terminate with the player's death, or after 10,000 steps, of which BALROG plays 2,000.
    """

    actions = tuple(_ACTIONS)
    default_action = "Noop"
    max_steps = 2000

    def __init__(self) -> None:
        self._game = _Game(seed=0)  # without a seed it would draw one from NumPy's global state
        self._achievements = 0

    def reset(self, seed: int) -> Observation:
        """Makes the environment of this seed; one step has passed when the player first looks around."""
        self._game = _Game(view=VIEW, size=SIZE, seed=seed)
        self._game.reset()
        *_, info = self._game.step(0)
        self._achievements = 0
        return self._observation(info)

    def step(self, action: str) -> tuple[Observation, float, bool, bool]:
        """Takes one of the 17 actions."""
        _, reward, done, info = self._game.step(self.actions.index(action))
        self._achievements = sum(count > 0 for count in info["achievements"].values())
        return self._observation(info), float(reward), bool(done), False

    def instruction(self) -> str:
        """The game, the actions and the achievements."""
        actions = ",\n".join(f"{name}: {meaning}" for name, meaning in _ACTIONS.items())
        goals = "\n".join(f"{number}. {name}" for number, name in enumerate(_GOALS, 1))
        return (
            "You play Crafter, a game of survival, and are to unlock as many achievements as you can.\n"
            f"You can take these actions and no others; here is what each does:\n\n{actions}.\n\n"
            f"These are the achievements of the game:\n{goals}\n\n"
            "What you did and saw so far comes next. Get as far as you can: all achievements are the goal.\n\n"
            "PLAY!"
        )

    def progression(self) -> float:
        """The share of the 22 achievements."""
        return self._achievements / ACHIEVEMENTS

    def _observation(self, info: dict[str, Any]) -> Observation:
        player = self._game._player
        scene = describe_scene(info["semantic"], tuple(info["player_pos"]), player.facing, VIEW)
        # At night the picture is drawn with random numbers of the game itself: a frame drawn twice a step, as BALROG
        # does, or once makes two different games.
        image = self._game.render()
        text = describe_state(player.sleeping, player.health) + scene
        return Observation(text, describe_inventory(info["inventory"]), np.ascontiguousarray(image, dtype=np.uint8))
