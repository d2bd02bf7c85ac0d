"""BabyAI in words (Chevalier-Boisvert et al. 2019, arXiv 1810.08272).

Source: balrog-ai/BALROG, `balrog/environments/babyai_text`, and the descriptions of BartekCupial/Minigrid,
`minigrid/minigrid_env.py`, both held to the letter in what an agent reads.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from minigrid.core.constants import COLOR_TO_IDX, IDX_TO_OBJECT, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.minigrid_env import MiniGridEnv

from benchmarks.suites.balrog.babyai_kinds import BabyAIKind
from benchmarks.suites.balrog.babyai_level import MixedTrainLocal
from benchmarks.suites.balrog.environment import Environment, Observation
from vldac.models.conversation import Image

TILE_SIZE = 16  # pixels, of a view of 7 x 7 tiles
_ACTIONS = {
    "turn left": "turn a quarter to the left where you stand",
    "turn right": "turn a quarter to the right where you stand",
    "go forward": "move one step ahead",
    "pick up": "take the object before you",
    "drop": "put down what you carry",
    "toggle": "use the object before you, such as opening a door",
}
_COLORS = {index: name for name, index in COLOR_TO_IDX.items()}
_STATES = {index: name for name, index in STATE_TO_IDX.items()}
_NOTHING = (OBJECT_TO_IDX["unseen"], OBJECT_TO_IDX["empty"])


class BabyAI(Environment):
    """One kind of mission.

    Observations: what the agent carries and sees, a line for each thing, and its view, (112, 112, 3) uint8.

    Rewards: minigrid's, 1 - 0.9 * steps / max_steps where the mission is done, else 0.

    Episodes terminate when the mission is done or can no longer be, and are truncated after 64 steps, or 128 where the
    level has two rooms or the mission two parts.

    Args:
        kind: of mission.
    """

    actions = tuple(_ACTIONS)
    default_action = "go forward"

    def __init__(self, kind: BabyAIKind) -> None:
        self._kind = kind
        self.level = MixedTrainLocal(kind)
        self.mission = ""
        self._solved = False

    @property
    def max_steps(self) -> int:  # type: ignore[override]  # known when an episode has begun
        """Of the episode that has begun."""
        return self.level.max_steps

    def reset(self, seed: int) -> Observation:
        """Draws the level of this seed."""
        self.level.close()
        self.level = MixedTrainLocal(self._kind)
        with contextlib.redirect_stdout(io.StringIO()):  # minigrid prints each draft that it rejects
            view, _ = self.level.reset(seed=seed)
        self.mission = view["mission"]
        self._solved = False
        return self._observation()

    def step(self, action: str) -> tuple[Observation, float, bool, bool]:
        """Takes one of the six actions."""
        _, reward, terminated, truncated, _ = self.level.step(self.actions.index(action))
        self._solved = self._solved or reward > 0
        return self._observation(), float(reward), terminated, truncated

    def instruction(self) -> str:
        """The mission and the actions."""
        actions = ",\n".join(f"{name}: {meaning}" for name, meaning in _ACTIONS.items())
        return (
            f"You play a small game of finding your way in a grid. Your mission: {self.mission}.\n"
            f"These are the actions that you can take, each with what it does:\n\n{actions}.\n\n"
            "Your first observation comes next.\n\n"
            "Hints:\n"
            "- Once you stand before the object that you want to use or to take, 'toggle' lets you interact with it.\n"
            "- If an observation stays the same, taking the same action again is of no use.\n\n"
            "PLAY!"
        )

    def progression(self) -> float:
        """1 where the mission was done, else 0."""
        return float(self._solved)

    def close(self) -> None:
        """Closes minigrid."""
        self.level.close()

    def _observation(self) -> Observation:
        image: Image = np.asarray(self.level.get_pov_render(tile_size=TILE_SIZE), dtype=np.uint8)
        return Observation("\n".join(describe(self.level)), image=image)


def describe(env: MiniGridEnv) -> list[str]:
    """What the agent carries, the walls ahead of and beside it, and all that it sees, column by column."""
    grid, visible = env.gen_obs_grid()
    cells = grid.encode(visible)
    x, y = env.get_view_coords(*env.agent_pos)
    lines = [] if env.carrying is None else [f"You carry a {env.carrying.color} {env.carrying.type}"]
    for direction, kinds in (
        ("forward", cells[x, :y, 0][::-1]),
        ("left", cells[:x, y, 0][::-1]),
        ("right", cells[x + 1 :, y, 0]),
    ):
        distance = next((i for i, kind in enumerate(kinds, 1) if kind not in _NOTHING), 0)
        if distance and kinds[distance - 1] == OBJECT_TO_IDX["wall"]:
            lines.append(f"a wall {_steps(distance)} {direction}")
    lines.extend(_things(cells, x, y))
    return lines


def _things(cells: np.ndarray, x: int, y: int) -> Iterator[str]:
    for column, row in np.ndindex(cells.shape[:2]):
        kind, color, state = (int(number) for number in cells[column, row])
        if (column, row) == (x, y) or kind in _NOTHING or kind == OBJECT_TO_IDX["wall"]:
            continue
        look = f"{_COLORS[color]} {IDX_TO_OBJECT[kind]}"
        if kind == OBJECT_TO_IDX["door"]:
            look = f"{_STATES[state]} {look}"  # "a open door": the original's "an" is never reached
        side, ahead = column - x, y - row
        places = [] if side == 0 else [f"{_steps(abs(side))} {'right' if side > 0 else 'left'}"]
        if ahead or not side:
            places.append(f"{_steps(ahead)} forward")
        yield f"a {look} {' and '.join(places)}"


def _steps(count: int) -> str:
    return f"{count} step{'s' if count > 1 else ''}"
