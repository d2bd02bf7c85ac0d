"""`vldac envs check`: whether an environment works on this machine."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import gymnasium as gym
import numpy as np

from envs import registry
from envs.base import SimulatorError
from pipelines.core import extensions
from pipelines.core.errors import PipelineError
from vldac.config import Config, load

if TYPE_CHECKING:
    from envs.base import Env


def check(env_id: str, steps: int, seed: int) -> list[str]:
    """Plays random actions, the first of them unreadable, and holds what comes back against the interface.

    Args:
        env_id: of the environment.
        steps: environment steps to take, 1 or more.
        seed: of the first episode and of the actions.

    Returns:
        What was found, a line each.

    Raises:
        PipelineError: the environment is unknown, cannot run here, or breaks the interface.
    """
    if steps < 1:
        raise PipelineError(f"--steps {steps}: at least one step is needed; give 1 or more")
    root = Path.cwd()
    if ":" in env_id:  # of the user's own
        config = load(root / "params.yaml") if (root / "params.yaml").is_file() else Config()
        extensions.make_importable(root, config)
    try:
        env = registry.make(env_id, width=64, height=48)
    except SimulatorError as error:
        raise PipelineError(str(error)) from error
    try:
        return _play(env_id, env, steps, random.Random(seed), seed)
    except SimulatorError as error:
        raise PipelineError(f"{env_id}: {error}") from error
    finally:
        env.close()


def _play(env_id: str, env: gym.Env, steps: int, draw: random.Random, seed: int) -> list[str]:
    unwrapped = cast("Env", env.unwrapped)
    started, episodes, rewards = time.monotonic(), 1, []
    first, _ = env.reset(seed=seed)
    observation = first
    for step in range(steps):
        _hold(env_id, env, observation)
        names = unwrapped.action_names
        action = unwrapped.parse_action(draw.choice(names)) if step and names else None
        observation, reward, terminated, truncated, info = env.step(action)
        if not isinstance(info.get("invalid"), bool) or (action is None) != info["invalid"]:
            raise PipelineError(f"{env_id}: `invalid` in info must say whether no legal action was named")
        rewards.append(float(reward))
        if terminated or truncated:
            if not isinstance(info.get("success"), bool):
                raise PipelineError(f"{env_id}: `success` in info of an episode's last step must be true or false")
            observation, _ = env.reset()
            episodes += 1
    seconds = time.monotonic() - started
    low, high = min(rewards), max(rewards)
    return [
        f"{env_id} works here",
        f"frames {first['frames'].shape} {first['frames'].dtype}, prompt of {len(first['prompt'])} characters",
        f"{steps} steps in {seconds:.2f} s, {episodes - 1} episodes ended, rewards {low:g} to {high:g}",
    ]


def _hold(env_id: str, env: gym.Env, observation: dict) -> None:
    """Checks an observation.

    Raises:
        PipelineError: it is not of the space, or its last frame shows one color only.
    """
    if not env.observation_space.contains(observation):
        raise PipelineError(f"{env_id}: an observation is not of {env.observation_space}")
    if len(np.unique(observation["frames"][-1])) == 1:
        raise PipelineError(f"{env_id} renders an empty picture; check the graphics libraries")
