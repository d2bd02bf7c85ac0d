"""A game of NLE or MiniHack behind BALROG's interface.

Sources: `balrog/environments/nle/base.py` (what is shown), `auto_more.py` (messages of several pages are read in one
step), `progress.py` (progression) and `balrog/environments/wrappers/nle_timelimit.py` of balrog-ai/BALROG.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from nle import nethack
from nle.env.base import NLE

from benchmarks.suites.balrog.environment import Environment, Observation
from benchmarks.suites.balrog.nethack import language
from benchmarks.suites.balrog.nethack.actions import MINIHACK, MORE
from benchmarks.suites.balrog.nethack.actions import NLE as NLE_KEYS
from benchmarks.suites.balrog.nethack.boxoban import SETS, choose
from benchmarks.suites.balrog.nethack.instructions import minihack_instruction, nle_instruction
from benchmarks.suites.balrog.nethack.progress import progression
from benchmarks.suites.balrog.nethack.simulators import Challenge, Level, Screen, make_level
from benchmarks.suites.balrog.nethack.tiles import draw


class Game(Environment):
    """What NLE and MiniHack have in common.

    Each episode has a simulator of its own, so that nothing of an earlier one is left. `close` ends it; an environment
    that is not closed takes its temporary folder along when it is collected.

    Args:
        keys: the key of each action.
        vision: with the picture of the map, and the values of the bottom lines in words; otherwise with the map in
            characters, as BALROG shows it to language models.
    """

    def __init__(self, keys: dict[str, int], *, vision: bool) -> None:
        self.actions = tuple(keys)
        self._keys = keys
        self._vision = vision
        self._simulator: NLE | None = None
        self._over = True

    @abstractmethod
    def _make_simulator(self, seed: int) -> NLE:
        """A simulator whose first reset begins the episode of this seed."""

    @abstractmethod
    def _follow(self, screen: Screen, reward: float) -> None:
        """Keeps what the progression is made of."""

    def reset(self, seed: int) -> Observation:
        """Begins the episode of this seed.

        Both of the game's generators take the seed. BALROG gives it to the first only, and leaves the second, which
        decides what a hallucination looks like, to chance.

        Raises:
            ValueError: the seed is not in [0, 2**64).
        """
        if not 0 <= seed < 2**64:
            raise ValueError(f"the seed is {seed}; it must be in [0, 2**64)")
        self.close()
        self._simulator = self._make_simulator(seed)
        self._simulator.nethack.set_initial_seeds(seed, seed, reseed=False)
        self._index = {int(key): index for index, key in reversed([*enumerate(self._simulator.actions)])}
        screen, _ = self._simulator.reset()
        self._over = False
        return self._observe(screen, language.text_message(screen["tty_chars"]))

    def step(self, action: str) -> tuple[Observation, float, bool, bool]:
        """Presses the key of an action, then reads on for as long as there is more of a message.

        Reading on takes steps of the simulator, which count towards its limits.

        Raises:
            ValueError: there is no such action.
            RuntimeError: no episode has begun, or it is over.
        """
        if action not in self._keys:
            raise ValueError(f"there is no action {action!r}")
        if self._simulator is None or self._over:
            raise RuntimeError("the episode is over; begin another with reset(seed)")
        screen, reward, done, _, info = self._simulator.step(self._index[self._keys[action]])
        message = language.text_message(screen["tty_chars"])
        # Where there is no key to read on with, BALROG raises; in those tasks the simulator reads on by itself.
        while "--More--" in message and not done and MORE in self._index:
            screen, more_reward, done, _, info = self._simulator.step(self._index[MORE])
            message = message.replace("--More--", "\n") + language.text_message(screen["tty_chars"])
            reward += more_reward
        self._over = bool(done)
        self._follow(screen, reward)
        truncated = self._over and info["end_status"] == self._simulator.StepStatus.ABORTED
        return self._observe(screen, message), float(reward), self._over and not truncated, truncated

    def close(self) -> None:
        """Ends the game and removes its temporary folder."""
        if self._simulator is not None:
            self._simulator.close()
        self._simulator = None
        self._over = True

    def _observe(self, screen: Screen, message: str) -> Observation:
        glyphs, blstats = screen["glyphs"], screen["blstats"]
        cursor = language.text_cursor(glyphs, blstats, screen["tty_cursor"])
        inventory = language.text_inventory(screen["inv_strs"], screen["inv_letters"])
        long_term = {"message": message, "language observation": language.text_glyphs(glyphs, blstats)}
        if self._vision:
            return Observation(
                _titled(long_term | {"cursor": cursor}),
                _titled({"statistics": language.text_blstats(blstats), "inventory": inventory}),
                draw(glyphs),
            )
        y, x = screen["tty_cursor"].tolist()
        rows = [bytes(row).decode("latin-1") + "\n" for row in screen["tty_chars"]]
        place = f"{cursor}\n(x={x}, y={y})"
        return Observation(
            _titled(long_term | {"cursor": place, "map": "".join(rows[1:])}), _titled({"inventory": inventory})
        )


class NetHack(Game):
    """NetHackChallenge-v0: as far as possible in the whole game.

    The answer that is no action costs an `esc`. Progression is the best that the depth and the experience level of any
    step were worth.
    """

    default_action = "esc"
    max_steps = Challenge.max_steps

    def __init__(self, *, vision: bool = True) -> None:
        super().__init__(NLE_KEYS, vision=vision)
        self._best = 0.0

    def instruction(self) -> str:
        """The actions, some tips and the goal."""
        return nle_instruction()

    def progression(self) -> float:
        """In [0, 1], from the table of human games."""
        return self._best

    def _make_simulator(self, seed: int) -> NLE:
        self._best = 0.0
        return Challenge()

    def _follow(self, screen: Screen, reward: float) -> None:
        blstats: Any = screen["blstats"]
        depth, level = int(blstats[nethack.NLE_BL_DEPTH]), int(blstats[nethack.NLE_BL_XP])
        self._best = max(self._best, progression(depth, level))


class MiniHack(Game):
    """One of MiniHack's tasks.

    The answer that is no action costs a step north. Progression is 1 if the last step was worth at least 1. A step to
    the goal in which the game's clock stood still is worth 0.99, and not enough, as in BALROG.

    Args:
        task: one of `MINIHACK`.
        vision: see `Game`.
        maps: folder with the published Boxoban maps; None plays puzzles that are made here.
    """

    default_action = "north"
    max_steps = Level.max_steps

    def __init__(self, task: str, *, vision: bool = True, maps: Path | None = None) -> None:
        super().__init__(MINIHACK[task], vision=vision)
        self._task = task
        self._maps = maps
        self._won = False

    def instruction(self) -> str:
        """The actions and the goal."""
        return minihack_instruction(self._task)

    def progression(self) -> float:
        """1 or 0."""
        return float(self._won)

    def _make_simulator(self, seed: int) -> NLE:
        self._won = False
        return make_level(self._task, choose(self._task, seed, self._maps) if self._task in SETS else None)

    def _follow(self, screen: Screen, reward: float) -> None:
        self._won = reward >= 1


def _titled(parts: dict[str, str]) -> str:
    return "\n".join(f"{title}:\n{text}\n" for title, text in parts.items())
