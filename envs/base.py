"""The one interface between a simulator and a vision-language model.

A `Env` is an ordinary Gymnasium environment whose observation is what a VLM is shown: frames and a prompt. The
words of the model come back through `parse_action`; what they cannot name is passed to `step` as None and costs the
environment's documented penalty. Nothing here knows of models.
"""

from __future__ import annotations

import re
import string
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, NamedTuple, NotRequired, TypedDict, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

PromptStyle = Literal["full", "terse"]

MAX_PROMPT_CHARACTERS = 8192
#: Seeds below this are for training and warm starts; evaluation draws from `EVALUATION_SEEDS`, so the two never meet.
TRAINING_SEEDS = range(0, 2**30)
EVALUATION_SEEDS = range(2**30, 2**31)
_BEGINS_BY_EXPERT = 1812  # is drawn apart from what environments draw


class SimulatorError(RuntimeError):
    """A simulator that cannot run on this machine, or whose process keeps failing. The message is one line."""


class UnknownEnvError(SimulatorError, ValueError):
    """No environment has this id; the message names the nearest ones."""


class UnknownOptionError(SimulatorError, ValueError):
    """An environment's class has no such option; the message names those that it has."""


class UnsuitableEnvError(SimulatorError, ValueError):
    """An environment that no model can be shown, or an option that does not fit it; the message is one line."""


class MissingSimulatorError(ModuleNotFoundError, SimulatorError):
    """The package of an environment is not installed; the message names the command that installs it."""


def opengl_error(error: BaseException) -> SimulatorError | None:
    """What stands for an error of pyglet where OpenGL cannot be used on this machine, with the cure.

    pyglet raises ImportError for a shared library that it cannot load. Without a driver, it raises exceptions of its
    own, which have no common base, from modules whose import just fails.

    Returns:
        None for any other error.
    """
    if not isinstance(error, ImportError | OSError) and type(error).__module__.partition(".")[0] != "pyglet":
        return None
    reason = " ".join(str(error).split()) or type(error).__name__
    return SimulatorError(
        f"MiniWorld cannot draw: the OpenGL libraries are missing or give no context ({reason}); on Debian and Ubuntu: "
        "apt-get install libegl1 libgl1 libglu1-mesa libfreetype6 libegl-mesa0 libgl1-mesa-dri"
    )


def decode_textures_with_pillow() -> None:
    """Has pyglet load pictures as RGBA, the format in which miniworld hands textures to OpenGL.

    pyglet converts RGB to RGBA by a regular expression that matches each pixel: a second for the textures of a room.
    Call it once pyglet's headless mode is set.
    """
    import pyglet.image  # noqa: PLC0415  # an environment without MiniWorld needs neither
    from PIL import Image  # noqa: PLC0415

    class RgbaDecoder(pyglet.image.codecs.ImageDecoder):
        def decode(self, file: BinaryIO, filename: str) -> Any:
            with Image.open(file, formats=["PNG"]) as picture:
                rgba = picture.convert("RGBA").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            return pyglet.image.ImageData(*rgba.size, "RGBA", rgba.tobytes())

    pyglet.image.load = partial(getattr(pyglet.image.load, "func", pyglet.image.load), decoder=RgbaDecoder())


def how_to_install(extra: str) -> str:
    """The command that installs the packages of an extra of this project, here.

    In a checkout it is a target of its Makefile. Elsewhere it names the packages themselves, since the project is on no
    package index and pip could not find its extras.

    Args:
        extra: of pyproject.toml; or "nethack", whose packages no extra can name, because they pin another Gymnasium.
    """
    if extra == "openenv":  # which moves Pillow, and is therefore part of no other set
        return "pip install 'openenv>=0.10,<0.11'"
    if (Path(__file__).parents[1] / "Makefile").is_file():
        return "make envs" if extra in {"alfworld", "webshop"} else "make setup"
    if extra == "nethack":
        return "pip install --no-deps nle minihack"
    try:
        required = metadata.requires("vldac") or []
    except metadata.PackageNotFoundError:
        required = []
    found = [
        line.partition(";") for line in required if re.search(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""", line)
    ]
    if not found:  # the modules were copied without the project's metadata, as MLflow copies those of a model
        return f"pip install, with the packages of the extra {extra!r} in the project's pyproject.toml"
    return "pip install " + " ".join(f"'{requirement.strip()}'" for requirement, _, _ in found)


class Exchange(NamedTuple):
    """What was asked and answered at an earlier step of an episode.

    Attributes:
        prompt: what was asked.
        answer: what was written, word for word.
    """

    prompt: str
    answer: str


class Observation(TypedDict):
    """What the model is shown at one step.

    Attributes:
        frames: (K, H, W, 3) uint8, the last K frames of this episode, oldest first. At the start of an episode the
            first frame is repeated: a window never holds a frame of another episode.
        prompt: the instruction, the text observation, the accepted actions and the answer format, as one text.
        history: the last exchanges of this episode, oldest first, where a policy is shown them. An environment does
            not know what was written and leaves it out; `envs.vector.VectorEnv` adds it.
    """

    frames: NDArray[np.uint8]
    prompt: str
    history: NotRequired[tuple[Exchange, ...]]


class Mark(NamedTuple):
    """Something that can be seen in a picture.

    Attributes:
        name: in words, such as "red box"; of writing, one letter or digit.
        x: of its center, from the left, as a share of the picture's width.
        y: of its center, from the top, as a share of the picture's height.
    """

    name: str
    x: float
    y: float


class Env(gym.Env[Observation, Any], ABC):
    """A simulator that shows frames and a prompt, and takes one of its own actions a step.

    Subclasses set `action_space` to the simulator's native space and implement `parse_action`, `describe` and
    Gymnasium's `reset`, `step` and `render`. `info` of every step holds `invalid` (bool: the step was taken with None),
    and of the last step of an episode `success` (bool) and, where an environment has several kinds of task, `task`
    (str). Whatever an environment draws comes from `np_random`, and an environment with separate tasks for training and
    for evaluation takes them by the seed of `reset`: see `held_out`.

    Args:
        prompt_style: "full" spells the task out for a pretrained model; "terse" is for models of a few million
            parameters whose tokenizer is trained on it.
        invalid_reward: reward of a step whose answer named no legal action; None takes the environment's own.
    """

    #: Reward for an answer that names no legal action, where the caller gives none.
    default_invalid_reward: ClassVar[float] = 0.0
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 4}  # type: ignore[misc]  # Gymnasium declares it as an instance attribute

    def __init__(self, *, prompt_style: PromptStyle = "full", invalid_reward: float | None = None) -> None:
        if prompt_style not in ("full", "terse"):
            raise ValueError(f'prompt_style is {prompt_style!r}; it must be "full" or "terse"')
        self.prompt_style = prompt_style
        self.invalid_reward = self.default_invalid_reward if invalid_reward is None else float(invalid_reward)
        self.render_mode = "rgb_array"

    @property
    @abstractmethod
    def action_names(self) -> tuple[str, ...]:
        """The actions accepted now, in the words the model must use.

        Where a grammar accepts more than can be listed, such as a search for any words, examples of it stand for it.
        """

    @abstractmethod
    def parse_action(self, text: str) -> Any | None:
        """The native action that `text` names, or None if it names none that is legal now."""

    @abstractmethod
    def describe(self) -> str:
        """One short, true sentence about the scene as it is now, for supervised warm starts."""

    @property
    def instruction(self) -> str:
        """What is to be done, in the words of the prompt, for a user's own template; "" if it is told only there."""
        return ""

    @property
    def state_text(self) -> str:
        """What the world says in words now, likewise; "" where pictures say all of it."""
        return ""

    def marks(self) -> tuple[Mark, ...]:
        """What the newest frame shows, and where: what a small vision tower is taught first (`vldac.dense_labels`).

        Empty where the renderer does not tell.
        """
        return ()

    def prepare(self, seed: int) -> None:
        """Called some time before `reset`, with the seed that `reset` will be called with.

        An environment that is slow to begin an episode may get ready meanwhile. What it shows must not depend on
        whether, or how often, this was called.
        """

    def expert_action(self) -> str | None:
        """What a competent player would answer now, or None where no expert is known."""
        return None


def held_out(seed: int | None) -> bool:
    """Whether an episode with this seed is one of evaluation; an episode without a seed is one of training."""
    return seed is not None and seed in EVALUATION_SEEDS


def begins_by_expert(seed: int, share: float) -> bool:
    """Whether the episode of a seed begins part of the way to the goal; see `envs.wrappers.ExpertStart`.

    Args:
        seed: of the episode; those of evaluation never do.
        share: of the training episodes that do.
    """
    return not held_out(seed) and float(np.random.default_rng([seed, _BEGINS_BY_EXPERT]).random()) < share


def match_action(text: str, names: Sequence[str]) -> int | None:
    """Index of the action that `text` names, ignoring case and extra spaces, or None if it names none."""
    words = " ".join(text.casefold().split())
    return next((index for index, name in enumerate(names) if name.casefold() == words), None)


def observation_space(frames: int, height: int, width: int) -> gym.Space[Observation]:
    """The space (a `gymnasium.spaces.Dict`) of `Observation` for K frames of height x width pixels."""
    space = gym.spaces.Dict(
        {
            "frames": gym.spaces.Box(0, 255, (frames, height, width, 3), np.uint8),
            "prompt": gym.spaces.Text(min_length=1, max_length=MAX_PROMPT_CHARACTERS, charset=string.printable),
        }
    )
    return cast("gym.Space[Observation]", space)


def answer_format(action: str = "...") -> str:
    """The JSON object that the model is asked for, with its two keys in order."""
    return '{"thoughts": "...", "action": "%s"}' % action  # noqa: UP031  # braces of an f-string would hide the JSON
