"""Stage `environment`: proves that the configured simulator renders here, and writes down exactly what it renders.

The manifest holds nothing that differs between two runs on one machine, so it changes exactly when the environment
does: its own source, its packages' versions, its spaces, its prompts or its pixels. What is trained depends on the
manifest and not on `envs/`: another environment beside this one changes nothing here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gymnasium as gym
import numpy as np

from pipelines.core import errors, extensions
from pipelines.stages.code import NEUTRAL, source_tree
from pipelines.stages.common import arguments
from vldac.config import Config, load
from vldac.utils.files import write_json

if TYPE_CHECKING:
    from envs.base import Env

SEEDS = (0, 1, 2)
#: Steps of each seed that are rendered, the first action of the environment again and again.
STEPS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Writes data/environment/manifest.json."""
    options = arguments(argv, __doc__)
    config = load(options.root / options.params)
    write_json(options.root / "data/environment/manifest.json", manifest(options.root, config))
    return 0


def manifest(root: Path, config: Config) -> dict[str, Any]:
    """Renders a few steps of a few seeds of the configured environment.

    Args:
        root: the project.
        config: names the environment.

    Raises:
        PipelineError: the environment is unknown, lies where DVC would not see its changes, or cannot be rendered here.
    """
    from envs import registry  # noqa: PLC0415  # its modules start the renderer
    from envs.base import SimulatorError  # noqa: PLC0415

    extensions.check(root, config)
    extensions.make_importable(root, config)
    try:
        env = registry.make(config.env.id, **config.env.make_options)
    except (SimulatorError, ModuleNotFoundError, ValueError) as error:
        raise errors.PipelineError(f"env.id {config.env.id}: {error}") from error
    try:
        unwrapped = cast("Env", env.unwrapped)
        pictures = cast(gym.spaces.Dict, env.observation_space)["frames"]
        traces = {str(seed): _trace(env, unwrapped, seed) for seed in SEEDS}
        return {
            "id": config.env.id,
            "action_space": str(env.action_space),
            "frames": list(pictures.shape or ()),
            **_sources(root, config, env),
            "seeds": traces,
        }
    finally:
        env.close()


def _sources(root: Path, config: Config, env: Any) -> dict[str, Any]:
    """The files and the versions of the packages that the environment is made of, its wrappers included."""
    layers = _layers(env) + _layers(getattr(env.unwrapped, "native", None))  # what an adapter adapts
    modules = sorted({base.__module__ for layer in layers for base in type(layer).__mro__})
    tree = source_tree(root, config)
    return tree.manifest(tree.closure(modules, NEUTRAL))


def _layers(env: Any) -> list[Any]:
    """An environment and what it wraps, from the outside in; nothing for None."""
    if env is None:
        return []
    return [env] if env is env.unwrapped else [env, *_layers(env.env)]


def _trace(env: Any, unwrapped: Env, seed: int) -> dict[str, Any]:
    """SHA-256 of frames and prompts of the first steps of one episode.

    Raises:
        PipelineError: its first picture is of one color only, so nothing was rendered.
    """
    frames, prompts = hashlib.sha256(), hashlib.sha256()
    observation, _ = env.reset(seed=seed)
    if len(np.unique(observation["frames"])) == 1:
        raise errors.PipelineError(f"{type(unwrapped).__name__} renders an empty picture; check the graphics libraries")
    for step in range(STEPS + 1):
        frames.update(observation["frames"].tobytes())
        prompts.update(observation["prompt"].encode() + b"\0")
        if step == STEPS:
            break
        names = unwrapped.action_names
        action = unwrapped.parse_action(names[0]) if names else None
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    return {"frames_sha256": frames.hexdigest(), "prompts_sha256": prompts.hexdigest()}


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
