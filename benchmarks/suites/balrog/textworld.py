"""TextWorld (Côté et al. 2018, arXiv 1806.11532): three kinds of text adventures.

Source: balrog-ai/BALROG, `balrog/environments/textworld`.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from textworld import EnvInfos
from textworld.gym.envs import TextworldGymEnv

from benchmarks.suites.balrog.environment import Environment, Observation
from benchmarks.suites.balrog.textworld_games import Games
from benchmarks.suites.balrog.textworld_instructions import INSTRUCTIONS

#: Jericho's own limit of a command, in bytes; it fails where the limit cuts a character in two.
MAX_COMMAND = 198


class TextWorld(Environment):
    """One kind of game; any text is an action.

    Observations: what the game says, from the first one without the banner and the objective. There is no picture.

    Rewards: the score so far, at every step, as BALROG adds it up.

    Episodes terminate when the game is won or lost, and after 80 steps.

    Args:
        task: kind of game.
        games: where its games come from.
    """

    actions = ()
    default_action = "help"
    max_steps = 80

    def __init__(self, task: str, games: Games) -> None:
        self._task = task
        self._games = games
        self._env: TextworldGymEnv | None = None
        # The words "save" and "script" write into the working directory, where other episodes would find the files.
        self._folder = tempfile.mkdtemp(prefix="textworld-")
        self._progression = 0.0

    def reset(self, seed: int) -> Observation:
        """Begins the game of this seed: of a list of games, the one at its remainder."""
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        Path(self._folder).mkdir()
        infos = EnvInfos(objective=True, description=True, score=True, max_score=True, won=True)
        game = str(self._games.get(seed).resolve())
        self._env = TextworldGymEnv([game], infos, max_episode_steps=self.max_steps)
        self._progression = 0.0
        with contextlib.chdir(self._folder):
            text, info = self._env.reset()
        return _observation(text, info)

    def step(self, action: str) -> tuple[Observation, float, bool, bool]:
        """Says a command to the game.

        Raises:
            RuntimeError: no episode has begun.
        """
        if self._env is None:
            raise RuntimeError("reset begins an episode; only then is there one to play")
        with contextlib.chdir(self._folder):
            text, score, done, info = self._env.step(_command(action))
        if done:
            self._progression = max(info["score"] / info["max_score"], 1.0 if info["won"] else 0.0)
        return _observation(text, info), float(score), bool(done), False

    def check(self, text: str) -> str:
        """Any text is an action."""
        return text

    def instruction(self) -> str:
        """The game and its commands."""
        return INSTRUCTIONS[self._task]

    def progression(self) -> float:
        """The share of the highest score when the game ended, 1 if it was won, and 0 before."""
        return self._progression

    def close(self) -> None:
        """Ends the interpreter and removes its folder."""
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None


def _observation(text: str, info: dict[str, Any]) -> Observation:
    """What stands behind the last mention of the objective, which the agent is not told."""
    return Observation((text.rsplit(info["objective"], 1)[-1] if info["objective"] else text).strip())


def _command(text: str) -> str:
    """What the interpreter can read of a command: a zero byte or half a character would end the process."""
    return text.replace("\0", "").strip().encode("utf-8", "ignore")[:MAX_COMMAND].decode("utf-8", "ignore")
