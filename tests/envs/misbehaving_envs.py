"""Environments that misbehave on purpose, made through "misbehaving_envs:Class" ids."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from envs.base import Env, match_action, observation_space


class Counter(Env):
    """Shows its seed and step count in its pixels. "die", "hang" and "raise" do that; anything else just counts."""

    limit = 6

    def __init__(self, *, width: int, height: int, **options: Any) -> None:
        super().__init__(**options)
        self.action_space = gym.spaces.Discrete(5)
        self.observation_space = observation_space(1, height, width)
        self._shape = (1, height, width, 3)

    @property
    def action_names(self) -> tuple[str, ...]:
        return ("go", "win", "die", "hang", "raise")

    def parse_action(self, text: str) -> int | None:
        return match_action(text, self.action_names)

    def describe(self) -> str:
        return "a counter"

    def _observation(self) -> Any:
        frame = np.full(self._shape, self.count, np.uint8)
        frame[0, 0, 0] = np.frombuffer((self.seed % 2**24).to_bytes(3, "little"), np.uint8)
        return {"frames": frame, "prompt": f"seed {self.seed} step {self.count}"}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seed, self.count = seed or 0, 0
        return self._observation(), {}

    def step(self, action: int | None) -> Any:
        name = "" if action is None else self.action_names[action]
        if name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "hang":
            time.sleep(3600)
        if name == "raise":
            raise ZeroDivisionError("on purpose")
        self.count += 1
        info: dict[str, Any] = {"invalid": action is None}
        terminated, truncated = name == "win", name != "win" and self.count >= self.limit
        if terminated or truncated:
            info["success"] = terminated
        return self._observation(), 0.1 * self.count, terminated, truncated, info


class Broken(Counter):
    """Cannot be made."""

    def __init__(self, **options: Any) -> None:
        raise OSError("no such simulator\nin two lines")


class CrashesAtReset(Counter):
    """Cannot begin an episode."""

    def reset(self, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Choosy(Counter):
    """Accepts other actions at every step, and has a task for each number of steps that it is won in."""

    @property
    def action_names(self) -> tuple[str, ...]:
        return (*("go",) * self.count, f"win{self.count}")

    def step(self, action: int | None) -> Any:
        won, count = action is not None and action == self.count, self.count
        observation, reward, _, truncated, info = super().step(0 if action is not None else None)
        if won:
            info |= {"success": True, "task": f"winning {count}"}
        return observation, reward, won, truncated, info


class Listening(Counter):
    """Shows which seeds it was told to prepare for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.heard: list[int] = []

    def prepare(self, seed: int) -> None:
        self.heard.append(seed)

    def _observation(self) -> Any:
        return {**super()._observation(), "prompt": str(self.heard)}


class Toy(gym.Env[Any, Any]):
    """A walk along a line, registered with Gymnasium: +1 for a step to the right, three of which end it."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}  # type: ignore[misc]  # as in `Env`
    _picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)

    def __init__(
        self,
        *,
        render_mode: str | None = None,
        space: gym.Space[Any] | None = None,
        meanings: Any = ("GO_LEFT", "GO_RIGHT"),
        picture: Any = _picture,
        mission: str = "mission\nahead\u2026",
        told: dict[str, bool] | None = None,
    ) -> None:
        self.render_mode = render_mode
        self.action_space = space or gym.spaces.Discrete(2)
        self.observation_space = gym.spaces.Dict(
            {"place": gym.spaces.Box(-100, 100, (9,)), "mission": gym.spaces.Text(100, min_length=0)}
        )
        self.picture, self.mission, self.told, self.taken = picture, mission, told or {}, None
        if isinstance(meanings, type):
            self.actions = meanings
        elif meanings:
            self.get_action_meanings = lambda: meanings

    def _observation(self) -> Any:
        return {"place": np.full(9, self.place, np.float32), "mission": self.mission}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps, self.shade = 0, 0, int(self.np_random.integers(100))
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.taken, self.steps = action, self.steps + 1
        reward = 1.0 if np.sum(action) > 0 else -1.0
        self.place += int(reward)
        return self._observation(), reward, abs(self.place) >= 3, False, dict(self.told)

    def render(self) -> Any:
        if not isinstance(self.picture, np.ndarray):
            return self.picture
        return self.picture + np.uint8(self.shade + self.place)


gym.register("Toy-v0", "misbehaving_envs:Toy", reward_threshold=3.0, max_episode_steps=50)
TOY = "misbehaving_envs:Toy-v0"
