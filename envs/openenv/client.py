"""An OpenEnv server as an environment: `env.id: openenv:http://127.0.0.1:8000`.

The server is somebody else's: each answer is checked for its size, its types and its range before anything of it is
used, and an answer that is not as it should be ends the run in one line.
"""

from __future__ import annotations

import base64
import io
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from openenv.core import GenericEnvClient
from PIL import Image

from envs.base import (
    MAX_PROMPT_CHARACTERS,
    Env,
    Observation,
    PromptStyle,
    SimulatorError,
    UnsuitableEnvError,
    answer_format,
    match_action,
    observation_space,
)

#: Bounds of one answer: mebibytes, pictures, pixels of a side, actions and characters of one, a reward's size.
MOST_MEBIBYTES, MOST_PICTURES, LONGEST_SIDE, MOST_ACTIONS, LONGEST_ACTION, LARGEST_REWARD = 16, 32, 4096, 1000, 256, 1e6
_MOST_TEXT = 6000


class OpenEnv(Env):
    """One session of an OpenEnv server.

    Observations: the last picture of the answer's field `pictures`, scaled to (1, height, width, 3) uint8, black where
    there is none; and the text of its field `text`, as the whole prompt where the server is one of this project, else
    with the instruction and the actions around it. Actions: names, from the option `actions` or from the list of each
    answer, which are sent as `{field: name}`. Rewards: the server's; an answer that names no action is not sent, costs
    `invalid_reward` and a step of `max_episode_steps`. An episode is a success if the answer's metadata say so, else if
    its return is above 0.

    Args:
        url: of the server, http or https.
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        prompt_style: see `Env`.
        invalid_reward: see `Env`.
        actions: names of the actions, as a sequence or separated by commas; None takes the answer's.
        field: of an action, which takes its name.
        index: whether an action is sent as its number among `actions` instead.
        text: the field of an answer that holds its text.
        pictures: the field of an answer that holds a picture in base64 (PNG or JPEG), or a list of them.
        instruction: what is to be done, for the prompt.
        max_episode_steps: steps after which an episode is truncated.
        timeout: seconds that an answer may take.

    Raises:
        UnsuitableEnvError: an argument does not fit.
        SimulatorError: the server cannot be reached, or answers with what cannot be used.
    """

    default_invalid_reward: ClassVar[float] = 0.0

    def __init__(
        self,
        *,
        url: str,
        width: int = 300,
        height: int = 300,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
        actions: Sequence[str] | str | None = None,
        field: str = "action",
        index: bool = False,
        text: str = "prompt",
        pictures: str = "images",
        instruction: str = "",
        max_episode_steps: int = 100,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(prompt_style=prompt_style, invalid_reward=invalid_reward)
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname or address.username is not None:
            raise UnsuitableEnvError(f"openenv:{url} is no address; it looks like openenv:http://127.0.0.1:8000")
        if index and actions is None:
            raise UnsuitableEnvError("env.options.index needs env.options.actions, the names in their order")
        if max_episode_steps < 1:
            raise UnsuitableEnvError(f"max_episode_steps is {max_episode_steps}; an episode has at least 1 step")
        self.url, self.width, self.height = url, width, height
        self._given = None if actions is None else _names(actions)
        self._field, self._index, self._text, self._pictures = field, index, text, pictures
        self._told, self._limit = _printable(instruction, 1024), max_episode_steps
        self.action_space = gym.spaces.Text(LONGEST_ACTION, charset=string.printable)
        self.observation_space = observation_space(1, height, width)
        client = GenericEnvClient(
            base_url=url,
            connect_timeout_s=timeout,
            message_timeout_s=timeout,
            max_message_size_mb=MOST_MEBIBYTES,
            mode="simulation",
        )
        self._client = client.sync()
        self._frame = np.zeros((height, width, 3), np.uint8)
        self._names, self._state, self._own, self._steps, self._return = self._given or (), "", False, 0, 0.0

    @property
    def action_names(self) -> tuple[str, ...]:
        """See `Env`."""
        return self._names

    @property
    def instruction(self) -> str:
        """See `Env`."""
        return self._told

    @property
    def state_text(self) -> str:
        """See `Env`."""
        return self._state

    def parse_action(self, text: str) -> str | None:
        """The name of an action."""
        at = match_action(text, self._names)
        return None if at is None else self._names[at]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins an episode on the server, from the same seed where the server takes one."""
        super().reset(seed=seed)
        self._steps, self._return = 0, 0.0
        self._take(self._ask("reset", **({} if seed is None else {"seed": seed})))
        return self._observation(), {}

    def step(self, action: str | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes a step on the server; None only passes time here."""
        self._steps += 1
        reward, done, told, info = self.invalid_reward, False, dict[str, Any](), {"invalid": action is None}
        if action is not None:
            value = self._names.index(action) if self._index else action
            reward, done, told = self._take(self._ask("step", {self._field: value}))
            self._return += reward
        truncated = bool(told.get("truncated", False)) if done else self._steps >= self._limit
        if done or truncated:
            success = told.get("success", self._return > 0)
            info["success"] = bool(success) and done
        return self._observation(), reward, done and not truncated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The last picture, (height, width, 3) uint8."""
        return self._frame.copy()

    def describe(self) -> str:
        """The first words of the text."""
        return _printable(self._state, 200) or "a picture"

    def close(self) -> None:
        """Ends the session."""
        self._client.close()

    def _ask(self, what: str, *arguments: Any, **named: Any) -> Any:
        try:
            return getattr(self._client, what)(*arguments, **named)
        except Exception as error:  # of websockets, asyncio and the server, which have no common base
            line = " ".join(str(error).split())[:200] or type(error).__name__
            raise SimulatorError(f"openenv:{self.url} does not answer a {what}: {line}") from error

    def _take(self, result: Any) -> tuple[float, bool, dict[str, Any]]:
        """Checks an answer and keeps what is shown of it.

        Returns:
            Reward, whether the episode is over, and the answer's metadata.
        """
        try:
            return self._checked(result)
        except (ValueError, TypeError, OSError) as error:
            raise SimulatorError(f"openenv:{self.url} answered what cannot be used: {error}") from error

    def _checked(self, result: Any) -> tuple[float, bool, dict[str, Any]]:
        seen, reward, done = result.observation, result.reward, result.done
        _require(isinstance(seen, Mapping), "an observation that is no object")
        _require(isinstance(done, bool), "done, which is neither true nor false")
        reward = 0.0 if reward is None else reward
        _require(isinstance(reward, bool | int | float), "a reward that is no number")
        _require(abs(reward) <= LARGEST_REWARD, "a reward out of bounds")  # nor NaN, nor a number of 400 digits
        told = seen.get("metadata") or {}
        _require(isinstance(told, Mapping), "metadata that are no object")
        text = seen.get(self._text, "")
        _require(isinstance(text, str), f"{self._text!r}, which is no text")
        listed = seen.get("actions")
        self._own = listed is not None and self._text == "prompt" and bool(text)
        if self._given is None:
            self._names = _names(listed) if listed else ()
        self._state = _printable(text, MAX_PROMPT_CHARACTERS if self._own else _MOST_TEXT)
        if (pictures := seen.get(self._pictures)) is not None:
            several = [pictures] if isinstance(pictures, str) else pictures
            _require(isinstance(several, list) and len(several) <= MOST_PICTURES, f"too many {self._pictures!r}")
            if several:
                self._frame = self._picture(several[-1])
        _require(bool(self._names) or done, "no list `actions`; name them in env.options.actions")
        return float(reward), done, dict(told)

    def _picture(self, data: Any) -> NDArray[np.uint8]:
        _require(isinstance(data, str), "a picture that is no text in base64")
        try:
            raw = base64.b64decode(data, validate=True)
            with Image.open(io.BytesIO(raw), formats=["PNG", "JPEG"]) as image:
                size, picture = image.size, image.convert("RGB") if max(image.size) <= LONGEST_SIDE else None
        except Exception as error:  # Pillow raises whatever a damaged file leads to: struct.error, EOFError
            raise ValueError(f"a damaged picture ({type(error).__name__})") from error
        if picture is None:
            raise ValueError(f"a picture of {size[0]} x {size[1]} pixels")
        if picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(picture, dtype=np.uint8).copy()

    def _observation(self) -> Observation:
        return {"frames": self.render()[None], "prompt": self._prompt()}

    def _prompt(self) -> str:
        if self._own:
            return self._state
        parts = [self._told, self._state]
        if self._names:  # as long as the episode runs
            parts.append(f"{'actions' if self.prompt_style == 'terse' else 'Possible actions'}: {self._list()}.")
        if self.prompt_style == "full":
            parts.append(f"Answer with one JSON object and nothing else: {answer_format()}")
        return "\n".join(filter(None, parts))[:MAX_PROMPT_CHARACTERS] or "Act."

    def _list(self) -> str:
        return ", ".join(self._names)[:1000]


def _require(sound: bool, what: str) -> None:
    if not sound:
        raise ValueError(what)


def _names(actions: Any) -> tuple[str, ...]:
    names = actions.split(",") if isinstance(actions, str) else actions
    _require(isinstance(names, Sequence) and 0 < len(names) <= MOST_ACTIONS, "actions that are no list of names")
    sound = all(isinstance(name, str) and 0 < len(name) <= LONGEST_ACTION and name.isprintable() for name in names)
    _require(sound, "actions that are no names")
    stripped = tuple(name.strip() for name in names)
    _require(all(stripped) and len(set(stripped)) == len(stripped), "actions with one name")
    return stripped


def _printable(text: str, most: int) -> str:
    return "".join(character if character in string.printable else "?" for character in text[:most]).strip()
