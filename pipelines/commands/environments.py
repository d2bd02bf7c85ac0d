"""`vldac envs check`: whether an environment keeps to the interface, how fast it is, and what players reach in it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import gymnasium as gym
import numpy as np
import yaml
from gymnasium.utils.env_checker import check_env

from envs import registry
from envs.base import EVALUATION_SEEDS, SimulatorError
from envs.hostile import hostile_answer
from pipelines.core import extensions
from pipelines.core.errors import PipelineError
from vldac import parsing
from vldac.config import Config, load
from vldac.evaluation import environments
from vldac.evaluation.statistics import wilson_interval

if TYPE_CHECKING:
    from envs.base import Env

_HOSTILE = 500
_REPEATED = 40  # steps that two simulators take side by side
_TIMED = 2.0  # seconds
_PATIENCE = 10.0  # seconds after which a player begins no other episode


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        verdict: "ok", "FAIL", or "-" where there was nothing to check.
        text: what was checked and found, one line.
    """

    verdict: str
    text: str


class _BrokenError(Exception):
    """The environment does not keep to the interface; the message says how."""


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        env: as it is made for a run.
        twin: another one of the same.
        seed: of what is drawn, and of the first episode that is not scored.
        episodes: evaluation episodes of each player, at most.
    """

    env: gym.Env[Any, Any]
    twin: gym.Env[Any, Any]
    seed: int
    episodes: int

    @property
    def unwrapped(self) -> Env:
        """The environment without its wrappers."""
        return cast("Env", self.env.unwrapped)


def check(env_id: str, *, episodes: int = 10, seed: int = 0, options: str = "") -> Iterator[Finding]:
    """Checks an environment, one thing after the other.

    Args:
        env_id: of the environment, or the name of a preset of section `env`.
        episodes: evaluation episodes of the random player and of the expert, at most: a slow one stops after 10 s.
        seed: of the other episodes and of the actions.
        options: `env.options` as a YAML mapping; empty for none, or the preset's.

    Raises:
        PipelineError: the environment is unknown or cannot be made here.
    """
    if episodes < 1:
        raise PipelineError(f"--episodes {episodes}: at least one episode is needed; give 1 or more")
    root = Path.cwd()
    config = load(root / "params.yaml") if (root / "params.yaml").is_file() else Config()
    extensions.make_importable(root, config)
    name, make_options = resolve(env_id, options, root)
    try:
        env, twin = (registry.make(name, **make_options) for _ in range(2))
    except (SimulatorError, ValueError) as error:
        raise PipelineError(str(error)) from error
    subject = Subject(env, twin, seed, episodes)
    try:
        for what, function in CHECKS.items():
            yield _run(what, function, subject)
    finally:
        env.close()
        twin.close()


def resolve(env_id: str, options: str, root: Path) -> tuple[str, Mapping[str, Any]]:
    """The id and the options of `envs.registry.make`.

    Raises:
        PipelineError: `options` is no YAML mapping.
        UserError: the preset is wrong, or its file is damaged.
    """
    try:
        given = yaml.safe_load(options) if options else {}
    except yaml.YAMLError as error:
        raise PipelineError(f"--options is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise PipelineError(f"--options {options}: give a mapping, such as '{{solvable_only: true}}'")
    if (env := environments.named(env_id, root, given)) is not None:
        return env.id, env.make_options
    return env_id, {"width": 64, "height": 48, "options": given}


def _run(what: str, function: Callable[[Subject], str | None], subject: Subject) -> Finding:
    try:
        found = function(subject)
    except Exception as error:  # noqa: BLE001  # whatever an environment raises is what is found
        kind = "" if isinstance(error, _BrokenError | AssertionError) else f"{type(error).__name__}: "
        return Finding("FAIL", f"{what}: {kind}{' '.join(str(error).split())}")
    return Finding("-", f"{what}: none") if found is None else Finding("ok", f"{what}: {found}")


def _observations(subject: Subject) -> str:
    env, unwrapped = subject.env, subject.unwrapped
    observation, _ = env.reset(seed=subject.seed)
    if not env.observation_space.contains(observation):
        raise _BrokenError(f"an observation is not of {env.observation_space}")
    if len(np.unique(observation["frames"][-1])) == 1:
        raise _BrokenError("it renders an empty picture; check the graphics libraries")
    frames = observation["frames"]
    return f"frames {frames.shape} {frames.dtype}, prompt of {len(observation['prompt'])} characters, described as " + (
        repr(unwrapped.describe())
    )


def _actions(subject: Subject) -> str:
    names = subject.unwrapped.action_names
    if not names:
        raise _BrokenError("none is accepted at the start of an episode")
    for name in names:
        if subject.unwrapped.parse_action(name) is None:
            raise _BrokenError(f"{name!r} is in `action_names`, but `parse_action` does not know it")
    if subject.unwrapped.parse_action("") is not None:
        raise _BrokenError("`parse_action` takes an empty text for an action")
    shown = ", ".join(names[:6])
    return f"{len(names)}: {shown}{', ...' if len(names) > 6 else ''}"


def _gymnasium(subject: Subject) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(subject.unwrapped, skip_render_check=True)
    return f"passed, {len(caught)} warnings" if caught else "passed"


def _hostile(subject: Subject) -> str:
    rng, invalid, costs = np.random.default_rng(subject.seed), 0, set[float]()
    subject.env.reset(seed=subject.seed)
    for number in range(_HOSTILE):
        answer = parsing.parse_response(hostile_answer(rng, subject.unwrapped.action_names))
        action = None if answer is None else subject.unwrapped.parse_action(answer.action)
        _, reward, terminated, truncated, _ = _hold(subject.env, action)
        if action is None:
            invalid += 1
            costs.add(reward)
        if terminated or truncated:
            subject.env.reset(seed=subject.seed + number + 1)
    return f"{_HOSTILE}, {invalid / _HOSTILE:.0%} of which name no action, for a reward of {_span(sorted(costs))}"


def _span(numbers: Sequence[float]) -> str:
    return f"{numbers[0]:g}" if numbers[0] == numbers[-1] else f"{numbers[0]:g} to {numbers[-1]:g}"


def _hold(env: gym.Env[Any, Any], action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Takes a step and holds what comes back against the interface."""
    observation, reward, terminated, truncated, info = env.step(action)
    if not env.observation_space.contains(observation):
        raise _BrokenError(f"an observation is not of {env.observation_space}")
    if not np.isfinite(float(reward)):
        raise _BrokenError(f"a reward is {reward}")
    if not isinstance(info.get("invalid"), bool) or (action is None and not info["invalid"]):
        raise _BrokenError("`invalid` in info must say whether no legal action was named")
    if (terminated or truncated) and not isinstance(info.get("success"), bool):
        raise _BrokenError("`success` in info of an episode's last step must be true or false")
    return observation, float(reward), terminated, truncated, info


def _repeats(subject: Subject) -> str:
    """The same seed and actions, in another simulator and after another episode."""
    first = _trace(subject.env, subject.seed)
    _trace(subject.twin, subject.seed + 1)
    again = _trace(subject.twin, subject.seed)
    for step, (mine, other) in enumerate(zip(first, again, strict=False)):
        if mine != other:
            raise _BrokenError(
                f"the same seed and actions gave something else at step {step}; draw from `np_random` only"
            )
    return f"the same seed and actions give the same {len(first) - 1} steps"


def _trace(env: gym.Env[Any, Any], seed: int) -> list[Any]:
    rng, unwrapped = np.random.default_rng(seed), cast("Env", env.unwrapped)
    observation, _ = env.reset(seed=seed)
    trace: list[Any] = [(observation["prompt"], observation["frames"].tobytes(), unwrapped.action_names)]
    for _ in range(_REPEATED):
        names = unwrapped.action_names
        observation, *rest = env.step(unwrapped.parse_action(names[int(rng.integers(len(names)))]))
        trace.append((observation["prompt"], observation["frames"].tobytes(), *rest))
        if rest[1] or rest[2]:
            break
    return trace


def _speed(subject: Subject) -> str:
    rng, steps, started = np.random.default_rng(subject.seed), 0, time.monotonic()
    subject.env.reset(seed=subject.seed)
    while (passed := time.monotonic() - started) < _TIMED:
        names = subject.unwrapped.action_names
        _, _, terminated, truncated, _ = subject.env.step(
            subject.unwrapped.parse_action(names[int(rng.integers(len(names)))])
        )
        steps += 1
        if terminated or truncated:
            subject.env.reset()
    return f"{steps / passed:,.0f} steps/s, resets included"


def _random(subject: Subject) -> str:
    rng = np.random.default_rng(subject.seed)

    def choose(env: Env) -> str:
        return env.action_names[int(rng.integers(len(env.action_names)))]

    return _score(subject, choose)


def _expert(subject: Subject) -> str | None:
    subject.env.reset(seed=EVALUATION_SEEDS[0])
    if subject.unwrapped.expert_action() is None:
        return None
    return _score(subject, lambda env: env.expert_action())


def _score(subject: Subject, player: Callable[[Env], str | None]) -> str:
    successes, returns, lengths, started = 0, [], [], time.monotonic()
    for seed in EVALUATION_SEEDS[: subject.episodes]:
        subject.env.reset(seed=seed)
        total, length, ended, info = 0.0, 0, False, dict[str, Any]()
        while not ended:
            name = player(subject.unwrapped)
            action = None if name is None else subject.unwrapped.parse_action(name)
            _, reward, terminated, truncated, info = _hold(subject.env, action)
            total, length, ended = total + reward, length + 1, terminated or truncated
        successes += info["success"]
        returns.append(total)
        lengths.append(length)
        if time.monotonic() - started > _PATIENCE:
            break
    count = len(lengths)
    low, high = wilson_interval(successes, count)
    return (
        f"success {successes / count:.2f} [{low:.2f}, {high:.2f}] over {count} episode{'s' if count > 1 else ''}, "
        f"return {np.mean(returns):.2f}, {np.mean(lengths):.1f} steps"
    )


#: In this order; each returns what it found, or None where there was nothing to check.
CHECKS: dict[str, Callable[[Subject], str | None]] = {
    "observations": _observations,
    "actions": _actions,
    "Gymnasium's checker": _gymnasium,
    "hostile answers": _hostile,
    "repeats": _repeats,
    "speed": _speed,
    "random player": _random,
    "expert": _expert,
}
