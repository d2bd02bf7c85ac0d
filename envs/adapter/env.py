"""GymnasiumEnv."""

from __future__ import annotations

import enum
import itertools
import os
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import parse_env_id
from numpy.typing import NDArray
from PIL import Image

from envs.adapter.known import KNOWN, best_actions
from envs.base import (
    Env,
    MissingSimulatorError,
    Observation,
    PromptStyle,
    UnknownEnvError,
    UnsuitableEnvError,
    answer_format,
    match_action,
    observation_space,
)

MOST_ACTIONS = 64
#: Steps of an episode where the environment is registered without a limit.
DEFAULT_LIMIT = 1000
_LONGEST_INSTRUCTION = 4096
_LONGEST_WORDS = 2048
_MOST_NUMBERS = 8


class GymnasiumEnv(Env):
    """An environment that is registered with Gymnasium, renders "rgb_array" and has few actions.

    Observations: its picture, scaled to (1, height, width, 3) uint8, and the prompt: the instruction, what its own
    observation says in words (MiniGrid's mission), and the actions.

    Actions: 0 to n - 1, in the order of its Discrete, MultiDiscrete or MultiBinary space, of at most 64 actions. Their
    names are those of `actions`, else what is known of Gymnasium's own environments, else the environment's
    (`get_action_meanings`, an enumeration `actions`), else "action 0" and so on.

    Rewards: its own. `step(None)` passes time without moving it and costs `invalid_reward`, -1 by default.

    Episodes end as its own do, or are truncated after `max_episode_steps` steps, those with None included. Success is,
    the first of these that there is: a return of at least `success_return`; `is_success` or `success` in its info; its
    goal, for those of Gymnasium's that end nowhere else; a return of at least its registered `reward_threshold`; a
    return above 0. Returns are of its own rewards.

    Args:
        env_id: of Gymnasium, such as "CartPole-v1"; "module:Name-v0" imports the module that registers it first.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        prompt_style: see `Env`.
        invalid_reward: see `Env`.
        actions: names of all actions in order, as a sequence or separated by commas.
        instruction: what is to be done, for the prompt.
        success_return: the return from which an episode is a success.
        max_episode_steps: steps after which an episode is truncated; None takes the registered limit.
        kwargs: keyword arguments of `gymnasium.make`, such as {"is_slippery": False}.

    Raises:
        UnknownEnvError: Gymnasium has no such id, or its module cannot be found.
        MissingSimulatorError: the environment needs a package that is not installed.
        UnsuitableEnvError: it draws no pictures, its actions cannot be named, or an argument does not fit it.
    """

    default_invalid_reward: ClassVar[float] = -1.0

    def __init__(
        self,
        *,
        env_id: str,
        width: int = 300,
        height: int = 300,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
        actions: Sequence[str] | str | None = None,
        instruction: str | None = None,
        success_return: float | None = None,
        max_episode_steps: int | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(prompt_style=prompt_style, invalid_reward=invalid_reward)
        _expect("actions", actions, str, list, tuple)
        _expect("instruction", instruction, str)
        _expect("success_return", success_return, int, float)
        _expect("max_episode_steps", max_episode_steps, int)
        _expect("kwargs", kwargs, Mapping)
        self.env_id, self.width, self.height = env_id, width, height
        self.native = _make(env_id, kwargs or {})
        name = parse_env_id(env_id.rpartition(":")[2])[1]
        self._known = KNOWN.get(name)
        self._native_actions = _enumerate(env_id, self.native.action_space)
        self._names = _names(env_id, self.native, len(self._native_actions), actions)
        self.action_space: gym.spaces.Discrete = gym.spaces.Discrete(len(self._names))
        self.observation_space = observation_space(1, height, width)
        known = self._known and (self._known.terse if prompt_style == "terse" else self._known.instruction)
        self._instruction = _printable(instruction or known or f"You play {name}.", _LONGEST_INSTRUCTION)
        self._success_return = success_return
        self._limit = self._own_limit() if max_episode_steps is None else max_episode_steps
        if self._limit < 1:
            raise UnsuitableEnvError(f"{env_id}: max_episode_steps is {self._limit}; an episode has at least 1 step")
        self._policy = best_actions(self.native.unwrapped)
        self._idle = False
        #: Of the last step that was taken: an answer without an action takes none.
        self._info: Mapping[str, Any] = {}
        self._begin(seed=0, options=None)  # whatever cannot be drawn here is told now

    @property
    def action_names(self) -> tuple[str, ...]:
        """See `Env`."""
        return self._names

    @property
    def instruction(self) -> str:
        """See `Env`."""
        return self._instruction

    @property
    def state_text(self) -> str:
        """See `Env`."""
        return _words(self._seen)

    def parse_action(self, text: str) -> int | None:
        """The index of the action that `text` names, ignoring case and spacing, or None."""
        return match_action(text, self._names)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode of the environment from the same seed."""
        super().reset(seed=seed)
        self._begin(seed, options)
        return self._observation(), {}

    def step(self, action: int | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes a step, or only passes time where `action` is None.

        Raises:
            ValueError: `action` is neither None nor in `action_space`.
        """
        if action is not None and not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}")
        self._steps += 1
        terminated = truncated = False
        reward = self.invalid_reward
        self._idle = self._idle or action is None
        if action is not None:
            self._seen, own, terminated, truncated, self._info = self.native.step(self._native_actions[int(action)])
            terminated, truncated, reward = bool(terminated), bool(truncated), float(own)
            self._return += reward
            self._frame = self._draw()
        truncated = not terminated and (truncated or self._steps >= self._limit)
        info: dict[str, Any] = {"invalid": action is None}
        if terminated or truncated:
            info["success"] = self._succeeded(terminated)
        return self._observation(), reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The picture as it is now, (height, width, 3) uint8."""
        return self._frame.copy()

    def describe(self) -> str:
        """What is known of the state in words, else its words, else its numbers where they are few, else its name."""
        if self._known and self._known.describe:
            return self._known.describe(self.native.unwrapped, self._seen)
        if words := _words(self._seen):
            return words
        numbers = _numbers(self._seen)
        return f"state {' '.join(f'{number:.4g}' for number in numbers)}" if numbers else f"a picture of {self.env_id}"

    def expert_action(self) -> str | None:
        """The optimal action where the environment tells its transitions, else that of a known controller, or None."""
        if self._policy is not None and isinstance(self._seen, int | np.integer):
            return self._names[self._policy[self._seen]]
        if self._known and self._known.expert:
            return self._names[self._known.expert(self._seen)]
        return None

    def close(self) -> None:
        """Closes the environment."""
        self.native.close()

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> None:
        self._steps, self._return, self._idle = 0, 0.0, False  # idle: an answer has named no action
        self._info = {}
        self._seen, _ = self.native.reset(seed=seed, options=options)
        self._frame = self._draw()

    def _draw(self) -> NDArray[np.uint8]:
        try:
            picture = self.native.render()
        except gym.error.DependencyNotInstalled as error:
            raise _missing(self.env_id, error) from error
        except NotImplementedError:
            picture = None
        if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)):
            raise UnsuitableEnvError(
                f"{self.env_id} draws no pictures: it has no render mode 'rgb_array' of (H, W, 3) uint8"
            )
        if picture.shape[:2] == (self.height, self.width):
            return picture.copy()
        size = (self.width, self.height)
        scaled = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
        return np.asarray(scaled, dtype=np.uint8).copy()

    def _observation(self) -> Observation:
        return {"frames": self.render()[None], "prompt": self._prompt()}

    def _prompt(self) -> str:
        task, actions = " ".join(filter(None, [self.instruction, self.state_text])), ", ".join(self._names)
        if self.prompt_style == "terse":
            return f"{task} actions: {actions}."
        return (
            f"{task}\nThe images are the latest pictures, oldest first.\n"
            f"Possible actions: {actions}.\n"
            "Say briefly what you see and what follows from it, then choose one action. "
            f"Answer with one JSON object and nothing else: {answer_format()}"
        )

    def _own_limit(self) -> int:
        spec = self.native.spec
        registered = gym.spec(spec.id).max_episode_steps if spec else None
        own = getattr(self.native.unwrapped, "max_steps", None)
        return registered or (own if isinstance(own, int) and own > 0 else DEFAULT_LIMIT)

    def _succeeded(self, terminated: bool) -> bool:
        if self._success_return is not None:
            return self._reached(self._success_return, terminated)
        for key in ("is_success", "success"):
            if key in self._info:
                return bool(self._info[key])
        if self._known and self._known.ends_at_goal:
            return terminated
        threshold = self.native.spec.reward_threshold if self.native.spec else None
        return self._return > 0 if threshold is None else self._reached(threshold, terminated)

    def _reached(self, least: float, terminated: bool) -> bool:
        """Whether the return is `least`; time that passed without an action is no way to a return of 0 or below."""
        return self._return >= least and not (self._idle and not terminated and least <= 0)


def _expect(name: str, value: Any, *kinds: type) -> None:
    """Refuses an option of another type: options come from files."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
        wanted = " or ".join(kind.__name__.lower() for kind in kinds)
        raise UnsuitableEnvError(f"env.options.{name} is {value!r}; it must be of type {wanted}")


def _make(env_id: str, kwargs: Mapping[str, Any]) -> gym.Env[Any, Any]:
    # pygame draws into memory here: no window, no sound device.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    options: dict[str, Any] = {"render_mode": "rgb_array", "max_episode_steps": -1, "disable_env_checker": True}
    if taken := sorted(options.keys() & kwargs.keys()):
        raise UnsuitableEnvError(f"{env_id}: kwargs holds {taken[0]!r}, which is set already; leave it out")
    try:
        return gym.make(env_id, **options, **kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise _missing(env_id, error) from error
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise UnknownEnvError(f"Gymnasium has no {env_id}: {_line(error)}") from error
    except TypeError as error:  # of the constructor
        raise UnsuitableEnvError(f"{env_id}: {_line(error)}") from error


def _missing(env_id: str, error: Exception) -> MissingSimulatorError:
    return MissingSimulatorError(f"{env_id} needs a package that is not installed: {_line(error)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _enumerate(env_id: str, space: gym.Space[Any]) -> list[Any]:
    """Every action of a space, in its order.

    Raises:
        UnsuitableEnvError: they are too many, or no finite number.
    """
    if isinstance(space, gym.spaces.Discrete):
        choices = [range(int(space.start), int(space.start + space.n))]
    elif isinstance(space, gym.spaces.MultiDiscrete):
        starts, counts = space.start.ravel(), space.nvec.ravel()
        choices = [range(int(start), int(start + n)) for start, n in zip(starts, counts, strict=True)]
    elif isinstance(space, gym.spaces.MultiBinary):
        choices = [range(2)] * int(np.prod(space.shape))
    else:
        raise UnsuitableEnvError(f"{env_id} has the actions {space}, which have no names; wrap it to Discrete ones")
    count = int(np.prod([len(each) for each in choices], dtype=float))
    if count > MOST_ACTIONS:
        raise UnsuitableEnvError(f"{env_id} has {count} actions; a prompt can list {MOST_ACTIONS}, so wrap it to fewer")
    if isinstance(space, gym.spaces.Discrete):
        return list(choices[0])
    return [np.array(each, space.dtype).reshape(space.shape) for each in itertools.product(*choices)]


def _names(env_id: str, native: gym.Env[Any, Any], count: int, given: Sequence[str] | str | None) -> tuple[str, ...]:
    """A name for each action.

    Raises:
        UnsuitableEnvError: those given are not as many, not distinct, or hold what a prompt cannot.
    """
    if given is None:
        found = next((names for names in _own_names(native) if len(names) == count and _distinct(names)), None)
        return found or tuple(f"action {number}" for number in range(count))
    names = tuple(" ".join(str(name).split()) for name in (given.split(",") if isinstance(given, str) else given))
    if len(names) != count:
        raise UnsuitableEnvError(f"{env_id} has {count} actions, but `actions` names {len(names)}: {', '.join(names)}")
    if not _distinct(names):
        raise UnsuitableEnvError(
            f"{env_id}: `actions` must be distinct names in printable ASCII, but is {', '.join(names)}"
        )
    return names


def _own_names(native: gym.Env[Any, Any]) -> list[tuple[str, ...]]:
    env, candidates = native.unwrapped, []
    if native.spec and (known := KNOWN.get(parse_env_id(native.spec.id)[1])):
        candidates.append(known.actions)
    if callable(meanings := getattr(env, "get_action_meanings", None)):
        candidates.append(tuple(_spoken(name) for name in meanings()))
    if isinstance(enumeration := getattr(env, "actions", None), enum.EnumMeta):
        candidates.append(tuple(_spoken(name) for name in enumeration.__members__))
    return candidates


def _spoken(name: Any) -> str:
    return " ".join(str(name).replace("_", " ").casefold().split())


def _distinct(names: Sequence[str]) -> bool:
    printable = all(name and set(name) <= set(string.printable) for name in names)
    return printable and len({name.casefold() for name in names}) == len(names)


def _words(observation: Any) -> str:
    """What an observation says in words, on one line."""
    texts = observation.values() if isinstance(observation, Mapping) else [observation]
    return _printable(" ".join(text for text in texts if isinstance(text, str)), _LONGEST_WORDS)


def _printable(text: str, most: int) -> str:
    line = " ".join(text.split())
    return "".join(character if character in string.printable else "?" for character in line)[:most]


def _numbers(observation: Any) -> list[float]:
    """The numbers of an observation, none if they are many."""
    parts = observation if isinstance(observation, tuple) else (observation,)
    if not all(isinstance(part, int | float | np.number | np.ndarray) for part in parts):
        return []
    if sum(np.size(part) for part in parts) > _MOST_NUMBERS:
        return []
    return [float(number) for part in parts for number in np.ravel(part)]
