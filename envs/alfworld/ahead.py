"""Gets games ready while others are played, in a process of its own, so that a reset finds them on disk.

Making a kitchen's game takes a second or two, and so does translating a downloaded one. Nothing depends on it: a game
is the same whoever makes it, and one that is not ready in time is made by the reset.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from functools import lru_cache
from typing import Any

from envs.alfworld.sources import open_games
from envs.alfworld.translation import translate
from envs.base import SimulatorError

_NICENESS = 10  # behind what is played now


class Ahead:
    """The one process of its kind that the simulators of this process share; it ends with this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: set[str] = set()

    def ask(self, source: tuple[Any, ...], task: str, number: int) -> None:
        """Has a game made ready, unless it has been asked for before.

        Args:
            source: arguments of `open_games`.
            task: its task type.
            number: its number.
        """
        line = json.dumps([*source, task, number])
        if line in self._asked:
            return
        self._asked.add(line)
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "envs.alfworld.ahead"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": _search_path()},
            )  # fmt: skip
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it could not make a game; the reset will say why
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def close(self) -> None:
        """Ends the process; closing twice is allowed."""
        process, self._process = self._process, None
        self._asked.clear()
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


@lru_cache(maxsize=1)
def ahead() -> Ahead:
    """The process's own."""
    return Ahead()


def _search_path() -> str:
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def main() -> None:
    """Reads a JSON list a line, the arguments of `Ahead.ask`, until its standard input ends."""
    os.nice(_NICENESS)
    for line in sys.stdin:
        split, tasks, rooms, games, data, task, number = json.loads(line)
        try:
            game = open_games(split, tuple(tasks), rooms, games, data).get(task, number)
            translate(game.domain, game.problem)
        except SimulatorError as error:  # the reset of this game raises it where it is seen
            sys.exit(str(error))


if __name__ == "__main__":
    main()
