"""NLE's and MiniHack's games as BALROG sets them up, on gymnasium's interface.

BALROG runs on forks (balrog-nle 0.9.0, balrog-ai/minihack 1.0.0) of the packages that are used here; each class says
what it brings back from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nle import nethack
from nle.env.tasks import NetHackChallenge, NetHackStaircase
from numpy.typing import NDArray

from benchmarks.suites.balrog.nethack.actions import MINIHACK
from benchmarks.suites.balrog.nethack.levels import boxoban, dark_corridor_battle, install, mazewalk, shipped
from benchmarks.suites.balrog.nethack.sokoban import Puzzle

OBSERVATIONS = ("glyphs", "chars", "blstats", "inv_strs", "inv_letters", "tty_chars", "tty_cursor")

#: MiniHack's (`minihack/base.py`), with the pet and the picking up of things that BALROG turns off.
_OPTIONS = (
    *("color", "showexp", "nobones", "nolegacy", "nocmdassist", "disclose:+i +a +v +g +c +o", "runmode:teleport"),
    *("mention_walls", "nosparkle", "showscore", "!autopickup", "pettype:none"),
)
#: For tasks that MiniHack plays with one role only, whatever BALROG asks for.
_KNIGHT = "kni-hum-law-fem"

Screen = dict[str, NDArray[Any]]


class Challenge(NetHackChallenge):
    """The whole game, NetHackChallenge-v0, with any role.

    An episode is aborted after 100,000 steps, or after 150 in a row in which the game's clock stands still. NLE 1.3
    counts each of these twice, since it asks twice a step whether to abort; here they count once, as in NLE 0.9. The
    phase of the moon follows the seed, not the day.
    """

    max_steps = 100_000
    _no_progress_count: int
    _turns: int | None

    def __init__(self) -> None:
        super().__init__(
            character="@",
            max_episode_steps=self.max_steps,
            no_progress_timeout=150,
            observation_keys=OBSERVATIONS,
            fix_moon_phase=True,
        )
        # NLE forbids seeds in the challenge by an attribute that hides this method; BALROG's fork does not.
        del self.nethack.set_initial_seeds
        self._counted = 0

    def reset(self, *args: Any, **kwargs: Any) -> tuple[Screen, dict[str, Any]]:
        """Begins a game."""
        self._counted = 0
        return super().reset(*args, **kwargs)

    def _check_abort(self, observation: tuple[NDArray[Any], ...]) -> bool:
        if self._steps > self._counted:
            self._counted = self._steps
            turns = observation[self._blstats_index][nethack.NLE_BL_TIME]
            self._no_progress_count = self._no_progress_count + 1 if turns == self._turns else 0
            self._turns = turns
        return self._steps >= self._max_episode_steps or self._no_progress_count >= self.no_progress_timeout


class Level(NetHackStaircase):
    """One level of MiniHack, won on the stairs down: +1, and -0.01 for a step in which the game's clock stands still.

    An episode is aborted after 100 steps.

    Args:
        description: of the level.
        keys: the actions.
        character: the role; any by default.
        asks: whether the game's questions are put to the player; all but a few are declined otherwise.
    """

    max_steps = 100

    def __init__(self, description: str, keys: tuple[int, ...], *, character: str = "@", asks: bool = False) -> None:
        super().__init__(
            character=character,
            max_episode_steps=self.max_steps,
            observation_keys=OBSERVATIONS,
            actions=keys,
            options=_OPTIONS,
            allow_all_yn_questions=asks,
            allow_all_modes=False,
            spawn_monsters=False,
            penalty_mode="constant",
            penalty_step=-0.01,
            penalty_time=0.0,
            fix_moon_phase=True,
        )
        install(description, Path(self.nethack._vardir))


class Boxoban(Level):
    """A Sokoban puzzle, won with a boulder on each fountain: +1.

    Every other step is worth -0.001, and 0.1 for each boulder more (or -0.1 for each less) that lies on a fountain; the
    step that ends the episode in another way is worth 0.
    """

    def reset(self, *args: Any, **kwargs: Any) -> tuple[Screen, dict[str, Any]]:
        """Begins a game, and takes the fountains for the goals."""
        self._goals: set[tuple[int, int]] = set()
        begun = super().reset(*args, **kwargs)
        self._goals = self._places(self.last_observation, "{")
        return begun

    def _is_episode_end(self, observation: tuple[NDArray[Any], ...]) -> NetHackStaircase.StepStatus:
        done = bool(self._goals) and self._goals == self._places(observation, "`")
        return self.StepStatus.TASK_SUCCESSFUL if done else self.StepStatus.RUNNING

    def _reward_fn(
        self,
        last_observation: tuple[NDArray[Any], ...],
        action: int,
        observation: tuple[NDArray[Any], ...],
        end_status: NetHackStaircase.StepStatus,
    ) -> float:
        del action
        if end_status != self.StepStatus.RUNNING:
            return float(end_status == self.StepStatus.TASK_SUCCESSFUL)
        before, after = (len(self._goals & self._places(screen, "`")) for screen in (last_observation, observation))
        return -0.001 + 0.1 * (after - before)

    def _places(self, observation: tuple[NDArray[Any], ...], character: str) -> set[tuple[int, int]]:
        chars = observation[self._observation_keys.index("chars")]
        return {(row, column) for row, column in np.argwhere(chars == ord(character)).tolist()}


@dataclass(frozen=True)
class _Setup:
    description: Callable[[], str]
    character: str = "@"
    asks: bool = False


_SETUPS = {
    "MiniHack-MazeWalk-9x9-v0": _Setup(partial(mazewalk, 9)),
    "MiniHack-MazeWalk-15x15-v0": _Setup(partial(mazewalk, 15)),
    "MiniHack-Corridor-R3-v0": _Setup(partial(shipped, "corridor3")),
    "MiniHack-CorridorBattle-Dark-v0": _Setup(dark_corridor_battle, character=_KNIGHT),
    "MiniHack-Quest-Easy-v0": _Setup(partial(shipped, "quest_easy"), asks=True),
    "MiniHack-Quest-Medium-v0": _Setup(partial(shipped, "quest_medium"), character=_KNIGHT, asks=True),
}


def make_level(task: str, problem: Puzzle | None = None) -> Level:
    """The game of a MiniHack task.

    Args:
        task: one of `MINIHACK`.
        problem: the puzzle that a Boxoban task plays.
    """
    keys = tuple(MINIHACK[task].values())
    if problem is not None:
        return Boxoban(boxoban(problem), keys)
    setup = _SETUPS[task]
    return Level(setup.description(), keys, character=setup.character, asks=setup.asks)
