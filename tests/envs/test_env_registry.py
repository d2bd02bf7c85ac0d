from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import base, registry
from envs.base import EVALUATION_SEEDS, Env, MissingSimulatorError, UnknownEnvError, UnknownOptionError
from envs.registry import make, registered
from envs.vector import VectorEnv, evaluation_seeds
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


OWN = "from envs.gym_cards import NumberLine\n\nclass Own(NumberLine): ...\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, which is not on `sys.path`, as for an installed command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path and Path(path) != tmp_path])
    return tmp_path


def test_the_current_directory_is_looked_in_here_and_in_worker_processes(here: Path) -> None:
    (here / "own_line_here.py").write_text(OWN)
    with VectorEnv("own_line_here:Own", 1, num_workers=1, seeds=evaluation_seeds(1, 1), **SIZE) as simulators:
        shown = simulators.reset()[0]
    assert shown is not None
    assert str(here) not in sys.path
    env = make("own_line_here:Own", **SIZE)
    assert np.array_equal(env.reset(seed=evaluation_seeds(1, 1)(0, 0))[0]["frames"], shown["frames"])
    assert sys.path[-1] == str(here)


def test_a_missing_module_is_told_from_a_missing_package(here: Path) -> None:
    (here / "own_needs.py").write_text("import nowhere_to_be_found\n")
    (here / "own_thing.py").write_text("class Thing: ...\n")
    with pytest.raises(UnknownEnvError, match=r"there is no module 'corridor' in the current directory") as error:
        make("corridor:Corridor", **SIZE)
    assert "package" not in str(error.value)
    with pytest.raises(UnknownEnvError, match=r"there is no module 'own_thing.deep'"):
        make("own_thing.deep:Thing", **SIZE)
    with pytest.raises(
        MissingSimulatorError, match=r"needs the package 'nowhere_to_be_found', which is not installed$"
    ):
        make("own_needs:Own", **SIZE)
    with pytest.raises(UnknownEnvError, match="the module own_thing has no 'Think'; name one of its classes"):
        make("own_thing:Think", **SIZE)
    with pytest.raises(UnknownEnvError, match=r"Thing is not a subclass of envs\.base\.Env"):
        make("own_thing:Thing", **SIZE)


def test_installed_packages_add_environments(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "someones.py").write_text(OWN)
    about = here / "someones-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: someones\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vldac.envs]\nSomeones-v0 = someones:Own\nPictures-v0 = someones:Own\n")
    monkeypatch.syspath_prepend(str(here))
    registry._installed.cache_clear()
    try:
        assert "Someones-v0" in registered()
        assert type(make("Someones-v0", **SIZE).unwrapped).__module__ == "someones"
        assert type(make("Pictures-v0", **SIZE).unwrapped).__name__ == "Pictures"  # ours stay ours
        with pytest.raises(UnknownEnvError, match="did you mean Someones-v0"):
            make("Someone-v0", **SIZE)
    finally:
        registry._installed.cache_clear()


def test_what_misses_a_package_cannot_be_played(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = registry.EnvSpec("envs.no_such_simulator:Env", extra="alfworld")
    monkeypatch.setitem(registry._SPECS, "Missing-v0", missing)
    assert "Missing-v0" in registered()
    assert set(registered()) - set(registry.playable()) == {"Missing-v0"}


def test_gymnasium_makes_ours() -> None:
    names = [name for name in gym.registry if name.startswith("vldac/")]
    assert len(names) == len(registry._SPECS)
    with warnings.catch_warnings(action="error"):
        registry.register_with_gymnasium()  # once more, as by another copy of the package
    env = gym.make("vldac/NumberLine-v0", prompt="terse", frames=2, render_mode="rgb_array")
    observation, _ = env.reset(seed=3)
    assert observation["frames"].shape == (2, 300, 300, 3)
    assert env.step(None)[4]["invalid"] is True
    assert gym.make("vldac/MiniWorld-Hallway-v0", width=32, height=24).reset(seed=0)[0]["frames"].shape[1:3] == (24, 32)
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        gym.make("vldac/NumberLine-v0", render_mode="human")


def test_importing_the_package_is_enough_for_gymnasium() -> None:
    code = "import envs, gymnasium; print(gymnasium.make('vldac/EZPoints-v0').reset(seed=0)[0]['prompt'][:4])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip()
