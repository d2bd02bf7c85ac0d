"""What stands between a `Env` and the model."""

from __future__ import annotations

import string
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.base import (
    MAX_PROMPT_CHARACTERS,
    Env,
    Observation,
    UnsuitableEnvError,
    answer_format,
    begins_by_expert,
    observation_space,
)
from envs.templates import Template, TemplateError, list_actions


class FrameWindow(gym.Wrapper[Observation, Any, Observation, Any]):
    """Shows the last K frames of the running episode, oldest first.

    At the start of an episode its first frame is repeated, so no window reaches over an episode's end.

    Args:
        env: an environment, whose observations hold one frame (1, H, W, 3).
        frames: K; the observations hold (K, H, W, 3).

    Raises:
        ValueError: K is less than 1.
    """

    def __init__(self, env: gym.Env[Observation, Any], frames: int) -> None:
        super().__init__(env)
        if frames < 1:
            raise ValueError(f"frames is {frames}; a window holds at least 1")
        self._window: deque[NDArray[np.uint8]] = deque(maxlen=frames)
        _, height, width, _ = env.observation_space["frames"].shape  # type: ignore[index]  # a Dict in every Env
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


class TemplatePrompt(gym.Wrapper[Observation, Any, Observation, Any]):
    """Shows a prompt that a user wrote in place of the environment's own.

    Args:
        env: an environment with its window of frames.
        template: of the prompt, see `envs.templates`.

    Raises:
        TemplateError: the template cannot be used; from `reset` on, if it asks for what the environment does not tell.
    """

    def __init__(self, env: FrameWindow, template: str) -> None:
        super().__init__(env)
        self._template, self._world = Template(template), env.env
        frames = env.observation_space["frames"]  # type: ignore[index]  # a Dict in every Env
        self._frames = str(frames.shape[0])
        charset = frozenset(string.printable) | frozenset(template)
        text = gym.spaces.Text(min_length=1, max_length=MAX_PROMPT_CHARACTERS, charset=charset)
        self.observation_space = cast("gym.Space[Observation]", gym.spaces.Dict({"frames": frames, "prompt": text}))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observation(observation), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._observation(observation), float(reward), terminated, truncated, info

    def _observation(self, observation: Observation) -> Observation:
        world = cast(Env, self._world.unwrapped)
        if "instruction" in self._template.names and not world.instruction:
            raise TemplateError(
                f"{type(world).__name__} tells its instruction in its own prompt only; write {{prompt}} in the prompt "
                "template, or give the class a property `instruction`"
            )
        values = {
            "instruction": world.instruction,
            "state": world.state_text,
            "actions": list_actions(world.action_names),
            "answer_format": answer_format(),
            "frames": self._frames,
            "prompt": observation["prompt"],
        }
        return {"frames": observation["frames"], "prompt": self._template.format(values)}


_LENGTH = 3381  # of a walk is drawn apart from what environments draw
_UNKNOWN_IN_A_ROW = 20  # starts of which the expert knows nothing: then it knows nothing of any


class ExpertStart(gym.Wrapper[Observation, Any, Observation, Any]):
    """Begins some training episodes part of the way to the goal, which the environment's expert has walked.

    Where a random player succeeds once in a hundred episodes, there is next to nothing to learn from; near the goal
    there is, and what is learned there makes starts farther away worthwhile (Salimans & Chen, arXiv 1812.03381, have
    demonstrations in the expert's place). How far the expert walks is uniform between the start and its last step. The
    episode is decided by its seed as ever; its return and length are of the steps after the walk, and the environment's
    own time limit counts the walk.

    Evaluation seeds begin at the start, always.

    Args:
        env: an environment with an expert.
        share: of the training episodes that begin so, see `begins_by_expert`.

    Raises:
        ValueError: `share` is not in [0, 1].
        UnsuitableEnvError: the environment has no expert.
    """

    env: Env

    def __init__(self, env: Env, share: float) -> None:
        super().__init__(env)
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}; it must be in [0, 1]")
        self.share, self._unknown = share, 0
        if type(env).expert_action is Env.expert_action:
            raise self._no_expert()

    def _no_expert(self) -> UnsuitableEnvError:
        name = type(self.env).__name__
        return UnsuitableEnvError(f"{name} has no expert that could begin its episodes; set env.expert_start to 0")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode, and walks into it where its seed says so.

        Raises:
            UnsuitableEnvError: the expert has known nothing of many starts in a row.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is None or not begins_by_expert(seed, self.share):
            return observation, info
        if self.env.expert_action() is None:  # of this start, such as cards that cannot make 24: it stays as it is
            self._unknown += 1
            if self._unknown >= _UNKNOWN_IN_A_ROW:
                raise self._no_expert()
            return observation, info
        self._unknown = 0
        steps = sum(1 for _ in self._walk())  # but for the last one, which ends the episode
        observation, info = self.env.reset(seed=seed, options=options)
        wanted = int(np.random.default_rng([seed, _LENGTH]).integers(steps + 1))
        for observation in islice(self._walk(), wanted):  # noqa: B007  # the last one is what is shown
            pass
        return observation, info

    def _walk(self) -> Iterator[Observation]:
        """What the expert sees after each of its steps, until it ends the episode or knows no more."""
        while (action := self.env.expert_action()) is not None:
            observation, _, terminated, truncated, _ = self.env.step(self.env.parse_action(action))
            if terminated or truncated:
                return
            yield observation


class TimeLimit(gym.Wrapper[Observation, Any, Observation, Any]):
    """Truncates episodes after a number of steps, for a shorter limit than the environment's own.

    Rewards stay the environment's: where they depend on its own limit (MiniWorld), they still do.

    Args:
        env: an environment, wrapped or not.
        max_steps: environment steps after which an episode that has not terminated is truncated, without success.

    Raises:
        ValueError: `max_steps` is less than 1.
    """

    def __init__(self, env: gym.Env[Observation, Any], max_steps: int) -> None:
        super().__init__(env)
        if max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}; an episode has at least 1 step")
        self.max_steps = max_steps
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode and its count of steps."""
        self._steps = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes a step; the last one allowed is truncated unless it ended the task."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        if self._steps >= self.max_steps and not (terminated or truncated):
            truncated = True
            info = {**info, "success": False}
        return observation, float(reward), terminated, truncated, info


class RewardScale(gym.Wrapper[Observation, Any, Observation, Any]):
    """Multiplies rewards by a constant, for environments whose rewards are of another size than 1.

    What the environment gave stays in `info["unscaled_reward"]`, so that returns are reported as published.

    Args:
        env: an environment, wrapped or not.
        scale: more than 0.

    Raises:
        ValueError: `scale` is not more than 0.
    """

    def __init__(self, env: gym.Env[Observation, Any], scale: float) -> None:
        super().__init__(env)
        if not scale > 0:
            raise ValueError(f"scale is {scale}; it must be more than 0")
        self.scale = scale

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes a step and scales its reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return (
            observation,
            self.scale * float(reward),
            terminated,
            truncated,
            {**info, "unscaled_reward": float(reward)},
        )
