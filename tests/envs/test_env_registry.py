from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import base, registry
from envs.base import EVALUATION_SEEDS, Env, UnknownOptionError
from envs.registry import make, registered
from envs.wrappers import FrameWindow

SIZE: dict[str, Any] = {"width": 32, "height": 24}
# Environments whose few actions are the same at every step. The others have test files of their own for what differs.
FIXED = [env_id for env_id in registered() if env_id.startswith(("MiniWorld-", "GymCards-"))]


def test_registered() -> None:
    assert "GymCards-NumberLine-v0" in registered()
    assert sum(name.startswith("MiniWorld-") for name in registered()) == 23


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("env_id", FIXED)
def test_follows_gymnasium(env_id: str) -> None:
    env = make(env_id, **SIZE)
    check_env(env.unwrapped, skip_render_check=True)
    check_env(env, skip_render_check=True)
    env.close()


def episode(env: gym.Env, seed: int, steps: int = 25) -> list[Any]:
    unwrapped = env.unwrapped
    assert isinstance(unwrapped, Env)
    choose = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    record: list[Any] = [observation]
    for _ in range(steps):
        action = None if choose.random() < 0.2 else int(choose.integers(unwrapped.action_space.n))  # type: ignore[attr-defined]
        record.append(env.step(action))
        if record[-1][2] or record[-1][3]:
            break
    return record


def flat(record: list[Any]) -> list[Any]:
    steps = [record[0], *(step[0] for step in record[1:])]
    return [(o["prompt"], o["frames"].tobytes()) for o in steps] + [step[1:] for step in record[1:]]


@pytest.mark.parametrize("env_id", FIXED)
def test_seed_and_actions_determine_everything(env_id: str) -> None:
    env, other = (make(env_id, **SIZE, frames=2, prompt="terse") for _ in range(2))
    seed = EVALUATION_SEEDS[7]
    first = flat(episode(env, seed))
    assert flat(episode(other, 5)) != first
    assert flat(episode(other, seed)) == first  # another simulator, another episode before it
    for _ in range(3):
        env.step(0) if env.reset(seed=1) else None
        other.unwrapped.describe()  # type: ignore[attr-defined]
        other.unwrapped.expert_action()  # type: ignore[attr-defined]
    assert flat(episode(env, seed)) == first
    env.close()
    other.close()


@pytest.mark.parametrize("env_id", FIXED)
@pytest.mark.parametrize("prompt", ["full", "terse"])
def test_prompts(env_id: str, prompt: Any) -> None:
    env = make(env_id, **SIZE, prompt=prompt)
    unwrapped = env.unwrapped
    assert isinstance(unwrapped, Env)
    text = env.reset(seed=0)[0]["prompt"]
    assert f"ctions: {', '.join(unwrapped.action_names)}." in text
    assert "{shape}" not in text
    assert text.isascii()
    if prompt == "terse":
        assert "\n" not in text
        assert len(text) <= 110
    else:
        answer = json.loads(re.findall(r"\{.*\}", text)[0])
        assert list(answer) == ["thoughts", "action"]
    for index, name in enumerate(unwrapped.action_names):
        assert unwrapped.parse_action(name) == unwrapped.parse_action(f" {name.upper()}\n") == index
    assert unwrapped.parse_action(f"{unwrapped.action_names[0]} {unwrapped.action_names[0]}") is None
    assert unwrapped.parse_action("") is None
    assert unwrapped.describe().isascii()
    env.close()


@pytest.mark.parametrize("env_id", FIXED)
def test_invalid_answers_cost_and_pass_time(env_id: str) -> None:
    env = make(env_id, **SIZE, invalid_reward=-0.5)
    observation, _ = env.reset(seed=3)
    after, reward, terminated, truncated, info = env.step(None)
    assert (reward, terminated, truncated, info) == (-0.5, False, False, {"invalid": True})
    assert np.array_equal(observation["frames"], after["frames"])
    assert env.step(0)[4]["invalid"] is False
    env.close()


@pytest.mark.parametrize("name", ["OneRoomS6Fast", "GymCards-NumberLine-v0", ""])
def test_unknown_environment(name: str) -> None:
    env_id = {"OneRoomS6Fast": "MiniWorld-OneRoomS6fast-v0", "": "Doom"}.get(name, name[:-1])
    with pytest.raises(ValueError, match=name or "the environments are") as error:
        make(env_id, **SIZE)
    assert "\n" not in str(error.value)


def test_bad_prompt_style() -> None:
    with pytest.raises(ValueError, match="prompt_style is 'short'"):
        make("GymCards-NumberLine-v0", **SIZE, prompt="short")  # type: ignore[arg-type]


def test_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = registry.EnvSpec("nowhere_to_be_found:World", extra="webshop")
    monkeypatch.setitem(registry._SPECS, "Nowhere-v0", missing)
    with pytest.raises(ModuleNotFoundError, match=r"'nowhere_to_be_found', which is not installed; .*: make envs$"):
        make("Nowhere-v0", **SIZE)


def test_away_from_a_checkout_the_packages_of_an_extra_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    required = ["torch>=2", "alfworld<0.5,>=0.4.2; extra == 'alfworld'", 'bm25s>=0.2.7; extra == "webshop"']
    required.append("textworld<2,>=1.7 ; extra == 'alfworld'")
    monkeypatch.setattr(base.metadata, "requires", {"vldac": required}.__getitem__)
    monkeypatch.setattr(base, "__file__", str(tmp_path / "envs/base.py"))
    assert base.how_to_install("alfworld") == "pip install 'alfworld<0.5,>=0.4.2' 'textworld<2,>=1.7'"
    assert base.how_to_install("webshop") == "pip install 'bm25s>=0.2.7'"
    assert base.how_to_install("nethack") == "pip install --no-deps nle minihack"
    # Copied modules, such as those of a model in MLflow, have no metadata.
    monkeypatch.setattr(base.metadata, "requires", _no_metadata)
    assert base.how_to_install("webshop").startswith("pip install, with the packages of the extra 'webshop'")


def _no_metadata(name: str) -> list[str]:
    raise base.metadata.PackageNotFoundError(name)


def test_options_reach_the_environment() -> None:
    unwrapped = make("GymCards-Points24-v0", **SIZE, options={"solvable_only": True}).unwrapped
    assert unwrapped.solvable_only  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("env_id", "option", "known"),
    [
        ("GymCards-Points24-v0", "solveable", "its options are solvable_only"),
        ("GymCards-NumberLine-v0", "max", "it has none"),
        ("GymCards-NumberLine-v0", "width", "it has none"),
        ("MiniWorld-Hallway-v0", "env_id", "it has none"),  # what makes it this environment is not to be changed
    ],
)
def test_an_unknown_option_names_those_that_there_are(env_id: str, option: str, known: str) -> None:
    with pytest.raises(UnknownOptionError, match=f"{env_id} has no option '{option}'; {known}"):
        make(env_id, **SIZE, options={option: 1})


def test_wrappers_are_made_where_they_are_asked_for() -> None:
    plain = make("GymCards-NumberLine-v0", **SIZE)
    assert isinstance(plain, FrameWindow)
    env = make("GymCards-NumberLine-v0", **SIZE, max_steps=2, reward_scale=0.5, invalid_reward=-3.0)
    env.reset(seed=0)
    assert env.step(None)[1:] == (-1.5, False, False, {"invalid": True, "unscaled_reward": -3.0})
    assert env.step(None)[2:] == (False, True, {"invalid": True, "success": False, "unscaled_reward": -3.0})


def test_environment_outside_the_package() -> None:
    module = importlib.import_module("envs.gym_cards")
    assert isinstance(make("envs.gym_cards:NumberLine", **SIZE).unwrapped, module.NumberLine)
