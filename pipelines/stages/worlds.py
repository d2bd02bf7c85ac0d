"""Stage `worlds`: proves that the configured simulator renders here, and writes down exactly what it renders.

The manifest holds nothing that differs between two runs on one machine, so it changes exactly when the world does: its
own source, its packages' versions, its spaces, its prompts or its pixels. What is trained depends on the manifest and
not on `envs/`: another world beside this one changes nothing here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gymnasium as gym
import numpy as np

from pipelines import cli
from pipelines.project import write_json
from pipelines.sources import closure
from pipelines.stages.common import arguments
from vldac.config import Config, load

if TYPE_CHECKING:
    from envs.base import World

#: Packages that decide what a simulator shows.
PACKAGES = ("gymnasium", "miniworld", "pyglet", "pillow", "numpy", "alfworld", "textworld", "playwright")
SEEDS = (0, 1, 2)
#: Steps of each seed that are rendered, the first action of the world again and again.
STEPS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Writes data/worlds/manifest.json."""
    options = arguments(argv, __doc__)
    config = load(options.root / options.params)
    write_json(options.root / "data/worlds/manifest.json", manifest(config))
    return 0


def manifest(config: Config) -> dict[str, Any]:
    """Renders a few steps of a few seeds of the configured world.

    Raises:
        PipelineError: the world is unknown, or cannot be rendered here.
    """
    from envs import registry  # noqa: PLC0415  # its modules start the renderer
    from envs.base import SimulatorError  # noqa: PLC0415

    env = config.env
    try:
        world = registry.make(env.id, **env.make_options)
    except (SimulatorError, ModuleNotFoundError, ValueError) as error:
        raise cli.PipelineError(f"env.id {env.id}: {error}") from error
    try:
        inner = cast("World", world.unwrapped)
        pictures = cast(gym.spaces.Dict, world.observation_space)["frames"]
        traces = {str(seed): _trace(world, inner, seed) for seed in SEEDS}
        return {
            "id": env.id,
            "action_space": str(world.action_space),
            "frames": list(pictures.shape or ()),
            "versions": {name: _version(name) for name in PACKAGES},
            "sources": _sources(world, Path(registry.__file__).parents[1]),
            "seeds": traces,
        }
    finally:
        world.close()


def _sources(world: Any, root: Path) -> dict[str, str]:
    """SHA-256 of every file of this project that the world is made of."""
    layers = [world]
    while layers[-1] is not layers[-1].unwrapped:
        layers.append(layers[-1].env)
    modules = {base.__module__ for layer in layers for base in type(layer).__mro__}
    files = sorted(closure(root, modules))
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _trace(env: Any, world: World, seed: int) -> dict[str, Any]:
    """SHA-256 of frames and prompts of the first steps of one episode.

    Raises:
        PipelineError: its first picture is of one colour only, so nothing was rendered.
    """
    frames, prompts = hashlib.sha256(), hashlib.sha256()
    observation, _ = env.reset(seed=seed)
    if len(np.unique(observation["frames"])) == 1:
        raise cli.PipelineError(f"{type(world).__name__} renders an empty picture; check the graphics libraries")
    for step in range(STEPS + 1):
        frames.update(observation["frames"].tobytes())
        prompts.update(observation["prompt"].encode() + b"\0")
        if step == STEPS:
            break
        names = world.action_names
        action = world.parse_action(names[0]) if names else None
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    return {"frames_sha256": frames.hexdigest(), "prompts_sha256": prompts.hexdigest()}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
