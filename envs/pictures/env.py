"""Pictures."""

from __future__ import annotations

import string
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.base import Env, Mark, Observation, PromptStyle, answer_format, match_action, observation_space
from envs.pictures.questions import KINDS, MOST_OPTIONS, Question, ask
from envs.pictures.scenes import draw, letters


class Pictures(Env):
    """Answer one question about one picture.

    Five kinds of question: how many shapes there are, which color one has, on which side of another it lies, which
    word or number is written, and which of three shapes in three panels came first or last. The right option is
    uniform among two to four, and without the picture nothing tells which it is.

    Observations: one picture (1, height, width, 3) uint8 on white, and the prompt with the question and its options.

    Actions: `action_names` are the options of this question, in the order in which they are listed; the native action
    is the number of one. A number beyond the last option names none of them and is taken as None. In the `full` style
    an option may also be named by its letter.

    Rewards: 1 for the right option, which is the only success, else 0; `step(None)` costs `invalid_reward`.

    Episodes terminate after one step; `task` is the kind of question.

    Args:
        width: of the picture, in pixels; what is drawn scales with it. Below 48 x 36 little can be told apart.
        height: of the picture, in pixels.
        prompt_style: see `Env`.
        invalid_reward: see `Env`.
        kinds: "all", or kinds separated by commas; of several, each is as likely.

    Raises:
        ValueError: there is no such kind.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        height: int = 48,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
        kinds: str = "all",
    ) -> None:
        super().__init__(prompt_style=prompt_style, invalid_reward=invalid_reward)
        self.width, self.height = width, height
        self.kinds = _kinds(kinds)
        self.action_space: gym.spaces.Discrete = gym.spaces.Discrete(MOST_OPTIONS)
        self.observation_space = observation_space(1, height, width)
        self._question: Question | None = None
        self._picture = np.zeros((height, width, 3), np.uint8)

    @property
    def question(self) -> Question:
        """What is asked in this episode.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        if self._question is None:
            raise gym.error.ResetNeeded("no question has been asked yet: call reset first")
        return self._question

    @property
    def action_names(self) -> tuple[str, ...]:
        """The options of this question."""
        return self.question.options

    def parse_action(self, text: str) -> int | None:
        """The number of the option that `text` names by its words, or in the `full` style by its letter, or None."""
        index = match_action(text, self.action_names)
        if index is None and self.prompt_style == "full":
            index = match_action(text, string.ascii_uppercase[: len(self.action_names)])
        return index

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws a kind, and a question of it with its picture."""
        super().reset(seed=seed)
        kind = self.kinds[int(self.np_random.integers(len(self.kinds)))]
        self._question = ask(self.np_random, kind)
        self._picture = draw(self._question.scene, self.width, self.height)
        return self._observation(), {}

    def step(self, action: int | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes the answer.

        Raises:
            ValueError: `action` is neither None nor in `action_space`.
        """
        if action is not None and not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}")
        invalid = action is None or action >= len(self.action_names)
        success = action is not None and not invalid and self.action_names[action] == self.question.answer
        reward = self.invalid_reward if invalid else float(success)
        info = {"invalid": invalid, "success": success, "task": self.question.kind}
        return self._observation(), reward, True, False, info

    def render(self) -> NDArray[np.uint8]:
        """The picture, (height, width, 3) uint8."""
        return self._picture.copy()

    def describe(self) -> str:
        """What the picture shows of what is asked, such as "2 red circles" or "circle is left"."""
        return self.question.description

    def marks(self) -> tuple[Mark, ...]:
        """The shapes, such as "red circle", and the letters of what is written."""
        scene = self.question.scene
        shapes = [Mark(f"{shape.color} {shape.name}", shape.x, shape.y) for shape in scene.shapes]
        if scene.writing is None:
            return tuple(shapes)
        written = letters(scene.writing, self.width, self.height)
        return (*shapes, *(Mark(letter, x / self.width, y / self.height) for letter, x, y in written))

    def expert_action(self) -> str:
        """The right option."""
        return self.question.answer

    @property
    def instruction(self) -> str:
        """The question."""
        return self.question.terse if self.prompt_style == "terse" else self.question.text

    def _observation(self) -> Observation:
        return {"frames": self.render()[None], "prompt": self._prompt()}

    def _prompt(self) -> str:
        question = self.question
        if self.prompt_style == "terse":
            return f"{self.instruction} actions: {', '.join(question.options)}."
        options = "\n".join(
            f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, question.options, strict=False)
        )
        return (
            f"{self.instruction}\nOptions:\n{options}\n"
            "Say briefly what you see and what follows from it, then choose one option. "
            f"Answer with one JSON object and nothing else: {answer_format()}"
        )


def _kinds(kinds: str) -> tuple[str, ...]:
    chosen = tuple(KINDS) if kinds == "all" else tuple(dict.fromkeys(name.strip() for name in str(kinds).split(",")))
    if unknown := [name for name in chosen if name not in KINDS]:
        raise ValueError(
            f'kinds is {kinds!r}, but there is no {unknown[0]!r}; it must be "all" or, separated by commas, of '
            f"{', '.join(KINDS)}"
        )
    return chosen
