"""What the games have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.base import Env, Observation, PromptStyle, answer_format, match_action, observation_space


class Game(Env):
    """A game that is shown as one picture, with a fixed list of actions.

    Args:
        width: of a picture, in pixels; what is drawn scales with it.
        height: of a picture, in pixels.
        prompt_style: see `Env`.
        invalid_reward: see `Env`.
    """

    default_invalid_reward: ClassVar[float] = -1.0
    #: The accepted actions, in the order of the action space.
    names: ClassVar[tuple[str, ...]]
    #: The rules for a pretrained model, and in as few words as can be.
    rules: ClassVar[str]
    terse_rules: ClassVar[str]

    def __init__(
        self,
        *,
        width: int = 300,
        height: int = 300,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
    ) -> None:
        super().__init__(prompt_style=prompt_style, invalid_reward=invalid_reward)
        self.width, self.height = width, height
        self.action_space: gym.spaces.Discrete = gym.spaces.Discrete(len(self.names))
        self.observation_space = observation_space(1, height, width)
        actions = ", ".join(self.names)
        if prompt_style == "terse":
            self._prompt = f"{self.instruction} actions: {actions}."
        else:
            self._prompt = (
                f"{self.instruction}\nThe images are the latest pictures of the game, oldest first.\n"
                f"Possible actions: {actions}.\n"
                "Say briefly what you see and what follows from it, then choose one action. "
                f"Answer with one JSON object and nothing else: {answer_format()}"
            )

    @property
    def action_names(self) -> tuple[str, ...]:
        """See `Env`."""
        return self.names

    @property
    def instruction(self) -> str:
        """See `Env`."""
        return self.terse_rules if self.prompt_style == "terse" else self.rules

    def parse_action(self, text: str) -> int | None:
        """The index of the action that `text` names, ignoring case and spacing, or None."""
        return match_action(text, self.names)

    @abstractmethod
    def render(self) -> NDArray[np.uint8]:
        """The picture as it is now, (height, width, 3) uint8."""

    def _check(self, action: Any) -> None:
        if action is not None and not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}")

    def _observation(self) -> Observation:
        return {"frames": self.render()[None], "prompt": self._prompt}
