"""What stands between a `World` and the model."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.base import Observation, World, observation_space


class FrameWindow(gym.Wrapper[Observation, Any, Observation, Any]):
    """Shows the last K frames of the running episode, oldest first.

    At the start of an episode its first frame is repeated, so no window reaches over an episode's end.

    Args:
        env: a world, whose observations hold one frame (1, H, W, 3).
        frames: K; the observations hold (K, H, W, 3).

    Raises:
        ValueError: K is less than 1.
    """

    env: World

    def __init__(self, env: World, frames: int) -> None:
        super().__init__(env)
        if frames < 1:
            raise ValueError(f"frames is {frames}; a window holds at least 1")
        self._window: deque[NDArray[np.uint8]] = deque(maxlen=frames)
        _, height, width, _ = env.observation_space["frames"].shape  # type: ignore[index]  # a Dict in every World
        self.observation_space = observation_space(frames, height, width)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode and fills the window with its first frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._window.extend([observation["frames"][-1]] * (self._window.maxlen or 1))
        return self._observation(observation), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes a step and moves the window on by one frame."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._window.append(observation["frames"][-1])
        return self._observation(observation), float(reward), terminated, truncated, info

    def _observation(self, observation: Observation) -> Observation:
        return {"frames": np.stack(self._window), "prompt": observation["prompt"]}
