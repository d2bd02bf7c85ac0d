"""Environments by name: which class an id stands for and which extra installs it.

A simulator is imported when one of its environments is made, so that naming an environment needs none of them
installed. Installed packages add ids by entry points of the group "vldac.envs", each leading to "module:Class".
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any

import gymnasium as gym

from envs.base import (
    Env,
    MissingSimulatorError,
    Observation,
    PromptStyle,
    UnknownEnvError,
    UnknownOptionError,
    how_to_install,
)
from envs.miniworld.tasks import TASKS as MINIWORLD_TASKS
from envs.wrappers import ExpertStart, FrameWindow, RewardScale, TemplatePrompt, TimeLimit


@dataclass(frozen=True)
class EnvSpec:
    """Where the class of an environment is.

    Attributes:
        entry_point: "module:Class" of a `Env`.
        options: keyword arguments of the class that make it this environment.
        extra: the extra of this project that installs the simulator, or None where it is always installed.
    """

    entry_point: str
    options: dict[str, Any] = field(default_factory=dict)
    extra: str | None = None


#: What stands before an id of Gymnasium's.
GYMNASIUM = "gymnasium:"
#: What stands before the address of an OpenEnv server.
OPENENV = "openenv:"
#: The namespace of the environments in Gymnasium's own registry.
NAMESPACE = "vldac"
_GROUP = "vldac.envs"

#: The task types of ALFWorld by the names that their environments have here.
_ALFWORLD_TASKS = {
    "PickAndPlace": "pick_and_place_simple",
    "LookAtObjInLight": "look_at_obj_in_light",
    "PickCleanThenPlace": "pick_clean_then_place_in_recep",
    "PickHeatThenPlace": "pick_heat_then_place_in_recep",
    "PickCoolThenPlace": "pick_cool_then_place_in_recep",
    "PickTwo": "pick_two_obj_and_place",
}
#: What every environment's class takes, and `make` names apart.
_COMMON = frozenset({"width", "height", "prompt_style", "invalid_reward"})
_ALFWORLD, _WEBSHOP = "envs.alfworld:ALFWorld", "envs.webshop:WebShop"

_SPECS: dict[str, EnvSpec] = {
    **{
        f"MiniWorld-{name}-v0": EnvSpec("envs.miniworld.env:MiniWorld", {"env_id": f"MiniWorld-{name}-v0"})
        for name in MINIWORLD_TASKS
    },
    **{
        f"GymCards-{name}-v0": EnvSpec(f"envs.gym_cards:{name}")
        for name in ("NumberLine", "EZPoints", "Points24", "Blackjack")
    },
    "Pictures-v0": EnvSpec("envs.pictures:Pictures"),
    "ALFWorld-v0": EnvSpec(_ALFWORLD, {}, "alfworld"),
    **{
        f"ALFWorld-{name}-v0": EnvSpec(_ALFWORLD, {"tasks": task}, "alfworld") for name, task in _ALFWORLD_TASKS.items()
    },
    "ALFWorld-Small-v0": EnvSpec(_ALFWORLD, {"tasks": "pick_and_place_simple", "rooms": "small"}, "alfworld"),
    "WebShop-v0": EnvSpec(_WEBSHOP, {}, "webshop"),
    "WebShop-Small-v0": EnvSpec(_WEBSHOP, {"catalogue": "small", "pictures": "drawn"}, "webshop"),
}


@cache
def _installed() -> dict[str, EnvSpec]:
    return {point.name: EnvSpec(point.value) for point in metadata.entry_points(group=_GROUP)}


def registered() -> tuple[str, ...]:
    """The ids of all environments, sorted: of this project and of installed packages."""
    return tuple(sorted({*_SPECS, *_installed()}))


def playable() -> tuple[str, ...]:
    """Those of `registered` whose packages are installed, as far as an extra of this project installs them."""
    found = ((env_id, spec(env_id)) for env_id in registered())
    return tuple(env_id for env_id, where in found if where.extra is None or _importable(where.entry_point))


@cache
def _importable(entry_point: str) -> bool:
    try:
        importlib.import_module(entry_point.partition(":")[0])
    except ModuleNotFoundError:
        return False
    return True


def make(
    env_id: str,
    *,
    width: int,
    height: int,
    frames: int = 1,
    prompt: PromptStyle = "full",
    prompt_template: str | None = None,
    invalid_reward: float | None = None,
    reward_scale: float = 1.0,
    max_steps: int | None = None,
    expert_start: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> gym.Env[Observation, Any]:
    """Makes an environment that shows its last `frames` frames.

    Args:
        env_id: one of `registered()`; "module:Class" for a `Env` outside this package, in the current directory too;
            "gymnasium:ID" for an environment that is registered with Gymnasium (`envs.adapter`); or
            "openenv:http://127.0.0.1:8000" for an OpenEnv server (`envs.openenv`).
        width: of a frame, in pixels.
        height: of a frame, in pixels.
        frames: K, how many frames an observation holds.
        prompt: "full" or "terse", see `Env`.
        prompt_template: a prompt with placeholders in place of the environment's own, see `envs.templates`.
        invalid_reward: see `Env`.
        reward_scale: see `RewardScale`.
        max_steps: see `TimeLimit`; None leaves the environment its own limit.
        expert_start: see `ExpertStart`.
        options: further keyword arguments of the environment's class, such as {"solvable_only": True}.

    Returns:
        An environment whose `unwrapped` is the `Env`.

    Raises:
        UnknownEnvError: no environment has this id, or its module or class is not there.
        UnknownOptionError: the environment's class has no such option; the message names those that it has.
        MissingSimulatorError: the simulator is not installed; the message names the command that installs it.
        SimulatorError: the simulator cannot run on this machine.
        TemplateError: the template cannot be used.
    """
    found = spec(env_id)
    env_class = _load(env_id, found)
    _check_options(env_id, env_class, found, options or {})
    unwrapped: Env = env_class(
        width=width,
        height=height,
        prompt_style=prompt,
        invalid_reward=invalid_reward,
        **found.options,
        **(options or {}),
    )
    window = FrameWindow(ExpertStart(unwrapped, expert_start) if expert_start else unwrapped, frames)
    env: gym.Env[Observation, Any] = window if prompt_template is None else TemplatePrompt(window, prompt_template)
    if max_steps is not None:
        env = TimeLimit(env, max_steps)
    return env if reward_scale == 1.0 else RewardScale(env, reward_scale)


def _load(env_id: str, found: EnvSpec) -> Callable[..., Env]:
    """Imports the class of an environment; what is not found elsewhere is looked for in the current directory."""
    module, _, name = found.entry_point.partition(":")
    if ":" in env_id and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        env_class = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if found.entry_point == env_id and f"{module}.".startswith(f"{error.name}."):
            raise UnknownEnvError(
                f"{env_id}: there is no module {error.name!r} in the current directory or on PYTHONPATH; correct the "
                "name, or type the command where the module is"
            ) from error
        cure = f"; install it with: {how_to_install(found.extra)}" if found.extra else ""
        raise MissingSimulatorError(
            f"{env_id} needs the package {error.name!r}, which is not installed{cure}",
            name=error.name,
        ) from error
    except AttributeError as error:
        if not isinstance(error.obj, ModuleType):  # a bug of the module keeps its traceback
            raise
        raise UnknownEnvError(f"{env_id}: the module {module} has no {name!r}; name one of its classes") from error
    if not (isinstance(env_class, type) and issubclass(env_class, Env)):
        raise UnknownEnvError(f"{env_id}: {name} is not a subclass of envs.base.Env")
    return env_class


def _check_options(env_id: str, env_class: Callable[..., Env], found: EnvSpec, options: Mapping[str, Any]) -> None:
    own = sorted(set(inspect.signature(env_class).parameters) - _COMMON - set(found.options))
    for name in options:
        if name not in own:
            known = f"its options are {', '.join(own)}" if own else "it has none"
            raise UnknownOptionError(f"{env_id} has no option {name!r}; {known}")


def spec(env_id: str) -> EnvSpec:
    """Where an environment is.

    Raises:
        UnknownEnvError: no environment has this id; the message names the nearest ones.
    """
    if found := _SPECS.get(env_id) or _installed().get(env_id):
        return found
    if env_id.startswith(OPENENV):
        return EnvSpec("envs.openenv.client:OpenEnv", {"url": env_id.removeprefix(OPENENV)}, "openenv")
    if env_id.startswith(GYMNASIUM):
        return EnvSpec("envs.adapter:GymnasiumEnv", {"env_id": env_id.removeprefix(GYMNASIUM)})
    if ":" in env_id:
        return EnvSpec(env_id)
    nearest = difflib.get_close_matches(env_id, registered(), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"the environments are {', '.join(registered())}"
    raise UnknownEnvError(f"unknown environment {env_id!r}; {hint}")


def make_registered(env_id: str, *, width: int = 300, height: int = 300, **options: Any) -> gym.Env[Observation, Any]:
    """What `gymnasium.make` calls: `make` with a default size; `render_mode` may be "rgb_array" only."""
    if (mode := options.pop("render_mode", "rgb_array")) not in (None, "rgb_array"):
        raise ValueError(f"render_mode is {mode!r}; the environments have 'rgb_array' only")
    return make(env_id, width=width, height=height, **options)


def register_with_gymnasium() -> None:
    """Adds every environment to Gymnasium's registry as "vldac/ID", with `GymCards-` left out of an id."""
    for env_id in _SPECS:
        name = f"{NAMESPACE}/{env_id.removeprefix('GymCards-')}"
        if name in gym.registry:  # by another copy of this package in one process, such as a served model's
            continue
        gym.register(
            name,
            "envs.registry:make_registered",
            kwargs={"env_id": env_id},
            disable_env_checker=True,  # it refuses None, the action of an answer that names none
        )
