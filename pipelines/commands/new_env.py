"""`vldac envs new`: an environment of one's own that runs at once, its test and its preset."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from string import Template

from pipelines.core.errors import PipelineError
from vldac.config import Config, load, presets

_ENVIRONMENT = Template('''"""$Class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.base import Observation
from envs.gym_cards.game import Game


class $Class(Game):
    """Walk along a corridor to the treasure at one of its ends.

    Start and end are drawn by the seed of `reset`.

    Rewards: 1 at the treasure, else 0. `step(None)`, for an answer that names no action, costs `invalid_reward`.

    Episodes terminate at the treasure, which is the only success, and are truncated after 12 steps.
    """

    names = ("left", "right")
    rules = (
        "You walk along a corridor, seen from above. You are the blue square, the yellow one is a treasure. "
        "Walk to the treasure."
    )
    terse_rules = "corridor. walk to the yellow square."
    cells = 7
    max_episode_steps = 12
    place = treasure = steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws where the walk starts and at which end the treasure is."""
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(1, self.cells - 1))
        self.treasure = int(self.np_random.choice([0, self.cells - 1]))
        self.steps = 0
        return self._observation(), {}

    def step(self, action: int | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Walks by one cell, or stays where `action` is None."""
        self._check(action)
        self.steps += 1
        if action is not None:
            self.place = min(max(self.place + (1 if action == 1 else -1), 0), self.cells - 1)
        terminated = self.place == self.treasure
        truncated = not terminated and self.steps >= self.max_episode_steps
        reward = self.invalid_reward if action is None else float(terminated)
        info: dict[str, Any] = {"invalid": action is None}
        if terminated or truncated:
            info["success"] = terminated
        return self._observation(), reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The corridor, (height, width, 3) uint8."""
        picture = np.full((self.height, self.width, 3), 230, np.uint8)
        edges = np.linspace(0, self.width, self.cells + 1).astype(int)
        top, bottom = self.height // 3, self.height - self.height // 3
        for cell, color in ((self.treasure, (240, 190, 0)), (self.place, (40, 90, 220))):
            picture[top:bottom, edges[cell] + 1 : edges[cell + 1] - 1] = color
        return picture

    def describe(self) -> str:
        """One short, true sentence, which the warm start teaches the small model to say."""
        return f"treasure is {'left' if self.treasure < self.place else 'right'}"

    def expert_action(self) -> str:
        """The way to the treasure."""
        return self.names[int(self.treasure > self.place)]
''')

_TEST = Template('''"""$Class keeps to the interface: `python -m pytest $test`."""

from __future__ import annotations

from typing import cast

from gymnasium.utils.env_checker import check_env

from envs.base import EVALUATION_SEEDS, Env
from envs.registry import make

ENV = "$id"


def test_it_follows_gymnasium() -> None:
    check_env(make(ENV, width=64, height=48).unwrapped, skip_render_check=True)


def test_an_answer_that_names_no_action_costs_and_moves_nothing() -> None:
    env = make(ENV, width=64, height=48, invalid_reward=-0.5)
    before, _ = env.reset(seed=0)
    after, reward, _, _, info = env.step(cast(Env, env.unwrapped).parse_action("fly"))
    assert (reward, info["invalid"]) == (-0.5, True)
    assert (before["frames"] == after["frames"]).all()


def test_the_expert_succeeds() -> None:
    env = make(ENV, width=64, height=48)
    unwrapped = cast(Env, env.unwrapped)
    for seed in EVALUATION_SEEDS[:20]:
        env.reset(seed=seed)
        ended = False
        while not ended:
            _, _, terminated, truncated, info = env.step(unwrapped.parse_action(unwrapped.expert_action() or ""))
            ended = terminated or truncated
        assert info["success"]
''')

_PRESET = Template("""# Section `env` for `--set env=$name`; what is not named here is at its default.
id: $id
width: 64
height: 48
""")


def create(name: str) -> list[str]:
    """Writes an environment into `extensions`, with its test, and its preset into conf/env.

    Args:
        name: of the module and the preset, such as `maze` or `my_maze`; the class is `Maze` or `MyMaze`.

    Returns:
        What to type next, a line each.

    Raises:
        PipelineError: the name is no module's, something of that name is there, or this is no project.
    """
    root = Path.cwd()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise PipelineError(
            f"{name!r} cannot be the name of a module; take small letters, digits and _, such as my_maze"
        )
    if not ((root / "dvc.yaml").is_file() and (root / presets.CONF).is_dir()):
        raise PipelineError("this is no project; go to a checkout, or start one with `vldac new DIRECTORY`")
    config = load(root / "params.yaml") if (root / "params.yaml").is_file() else Config()
    folder = Path(config.extensions)
    if folder.suffix or not all(part.isidentifier() for part in folder.parts):
        raise PipelineError(f"extensions: {folder} is no folder that can be imported from; name one in params.yaml")
    module, test = folder / f"{name}.py", folder / f"test_{name}.py"
    preset = Path(presets.CONF, "env", f"{name}.yaml")
    if there := [path for path in (module, test, preset) if (root / path).exists()]:
        raise PipelineError(f"{there[0]} exists; take another name, or remove it")
    cls = "".join(word.capitalize() for word in name.split("_"))
    words = {"Class": cls, "name": name, "id": f"{'.'.join(folder.parts)}.{name}:{cls}", "test": test.as_posix()}
    for path, template in ((module, _ENVIRONMENT), (test, _TEST), (preset, _PRESET)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(template.substitute(words), encoding="utf-8")
    return [
        f"{module} is an environment that works; make it yours",
        f"vldac envs check {name}",
        _run_test(root, test),
        f"vldac run --set env={name}",
    ]


def _run_test(root: Path, test: Path) -> str:
    """The command that runs a test; `make run` alone installs nothing to run tests with."""
    if find_spec("pytest") is not None:
        return f"python -m pytest {test}"
    if (root / "Makefile").is_file():
        return f"make test ARGS={test}"
    return f"pip install pytest && python -m pytest {test}"
