"""NumberLine."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from envs.base import Mark, Observation
from envs.fonts import Font, fit_font
from envs.gym_cards.game import Game

_LEFT, _MIDDLES = 0.04, (0.28, 0.72)  # of the lines, as shares of the picture


def _font(width: int, height: int) -> Font:
    return fit_font("Current: 0", round(width * 0.92), round(height * 0.3))


@lru_cache(maxsize=64)  # there are 36 pictures, and drawing one takes longer than the rest of a step
def _picture(lines: tuple[str, str], width: int, height: int) -> NDArray[np.uint8]:
    """Two lines of text, black on white, (height, width, 3) uint8."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for line, middle in zip(lines, _MIDDLES, strict=True):
        draw.text((round(width * _LEFT), round(height * middle)), line, "black", _font(width, height), anchor="lm")
    return np.asarray(image, dtype=np.uint8).copy()


class NumberLine(Game):
    """Move the current number to the target, one at a time.

    Start and target are uniform in 0..5; where they are equal the target becomes (target + 1) % 5.

    Observations: one picture (1, height, width, 3) uint8, "Target: k" over "Current: k" on white, and the prompt.

    Actions: 0 is "-", 1 is "+"; the number stays within 0..5.

    Rewards: +1 at the target, -1 for a move that does not bring the number closer to it, else 0. `step(None)` moves
    nothing and costs `invalid_reward`.

    Episodes terminate at the target, which is the only success, and are truncated after 10 steps.

    The released game forces start and target apart in its constructor only, so that now and then a later episode
    begins at the target and the target moves after the first step; here they are apart in every episode.
    """

    names = ("-", "+")
    rules = (
        "You play a game on a number line.\n"
        'The image shows two integers from 0 to 5: your goal after "Target:" and your position after "Current:". '
        'Action "+" moves the current position up by 1, "-" moves it down by 1. Reach the target in as few moves as '
        "possible."
    )
    terse_rules = "number line. move current to target."
    last = 5
    max_episode_steps = 10
    target = current = steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws a start and a target that differ."""
        super().reset(seed=seed)
        self.current, self.target = (int(number) for number in self.np_random.integers(0, self.last + 1, size=2))
        if self.target == self.current:
            self.target = (self.target + 1) % self.last
        self.steps = 0
        return self._observation(), {}

    def step(self, action: int | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves by one, or not at all where `action` is None.

        Raises:
            ValueError: `action` is neither None nor in `action_space`.
        """
        self._check(action)
        self.steps += 1
        distance = abs(self.target - self.current)
        if action is not None:
            self.current = min(max(self.current + (1 if action == 1 else -1), 0), self.last)
        shrunk = abs(self.target - self.current) < distance
        terminated = self.current == self.target
        truncated = not terminated and self.steps >= self.max_episode_steps
        reward = self.invalid_reward if action is None else 1.0 if terminated else 0.0 if shrunk else -1.0
        info: dict[str, Any] = {"invalid": action is None}
        if terminated or truncated:
            info["success"] = terminated
        return self._observation(), reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The picture as it is now, (height, width, 3) uint8."""
        return _picture(self._lines(), self.width, self.height).copy()

    def describe(self) -> str:
        """Both numbers and how they compare, such as "target 4 current 1 target is higher"."""
        relation = "higher" if self.target > self.current else "lower" if self.target < self.current else "equal"
        return f"target {self.target} current {self.current} target is {relation}"

    def marks(self) -> tuple[Mark, ...]:
        """Both digits, where their lines end."""
        font, lines = _font(self.width, self.height), self._lines()
        places = [font.getlength(line[:-1]) + font.getlength(line[-1]) / 2 for line in lines]
        return tuple(
            Mark(line[-1], _LEFT + place / self.width, middle)
            for line, place, middle in zip(lines, places, _MIDDLES, strict=True)
        )

    def _lines(self) -> tuple[str, str]:
        return f"Target: {self.target}", f"Current: {self.current}"

    def expert_action(self) -> str | None:
        """The move towards the target; None once it is reached."""
        return None if self.target == self.current else "+" if self.target > self.current else "-"
