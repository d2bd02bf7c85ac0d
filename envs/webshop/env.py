"""WebShop."""

from __future__ import annotations

import string
from itertools import accumulate
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.base import Env, Observation, PromptStyle, held_out, observation_space
from envs.webshop import prompts
from envs.webshop.buyer import Buyer, keywords
from envs.webshop.goals import Goal, split
from envs.webshop.products import Tagger
from envs.webshop.screens import open_screen
from envs.webshop.shop import MAX_ACTION_CHARACTERS, State, open_shop, parse

#: Steps of an episode: the limit of the released agents (baseline_models/train_rl.py), and of the one-page catalogue.
_STEPS, _SMALL_STEPS = 100, 12


class WebShop(Env):
    """Search an online shop for a product that an instruction describes, choose its options and buy it.

    An implementation of WebShop (Yao et al. 2022, arXiv 2207.01206) after the released code
    (https://github.com/princeton-nlp/WebShop): its pages, actions, goals, splits and reward, without its Java search
    engine and downloads; spaCy's model, like them, is needed for the released files only.

    Observations: one picture (1, height, width, 3) uint8 of the page, and a prompt with the instruction, the text of
    the page and what can be done there.

    Actions: texts. "search[words]" on the search page, elsewhere "click[text]" for what can be clicked there. Case and
    extra spaces do not count. Any other text, like None, changes nothing, counts as a step and costs
    `invalid_reward`; the released shop gives 0 for it.

    Rewards: 0 until the purchase, then its score in [0, 1]: see `envs.webshop.reward`. Success is a score of 1.

    Episodes terminate with the purchase and are truncated after `max_steps`. `info` of the last step holds `success`
    and `score`, which is 0 where nothing was bought.

    Goals are drawn by the seed: those of `envs.base.held_out` seeds from the released test split, evenly (of the small
    catalogue, whose splits are small, from the development split too: 54 goals); all others from the training split by
    the released weights, which prefer rare attributes.

    Args:
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        prompt_style: see `Env`.
        invalid_reward: see `Env`.
        catalogue: "default" (about 1,000 products), "small" (8 products on one page) or a directory with the released
            files, see `envs.webshop.official`.
        pictures: "browser" shows the page as Chromium renders it; "drawn" draws a simple picture of it, which needs
            neither a browser nor a server.
        goals: "synthetic" goals ask for attributes and every option of a product; "human" ones are those that people
            wrote, of which only the released files hold any.
        tagger: what finds the nouns of titles, on which the reward depends: "spacy" (en_core_web_sm, as in the released
            shop) or "rules", see `envs.webshop.nouns`; None is "spacy" for the released files, and else "rules".
        max_steps: steps until an episode is truncated; None is 100, and 12 for the small catalogue.

    Raises:
        ValueError: an argument or a file of the catalogue is not what it should be.
        SimulatorError: there is no browser, or it does not start, or the tagger is not installed.
    """

    default_invalid_reward: ClassVar[float] = -0.1

    def __init__(
        self,
        *,
        width: int = 640,
        height: int = 480,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
        catalogue: str = "default",
        pictures: Literal["browser", "drawn"] = "browser",
        goals: Literal["synthetic", "human"] = "synthetic",
        tagger: Tagger | None = None,
        max_steps: int | None = None,
    ) -> None:
        super().__init__(prompt_style=prompt_style, invalid_reward=invalid_reward)
        if pictures not in ("browser", "drawn"):
            raise ValueError(f'pictures is {pictures!r}; it must be "browser" or "drawn"')
        if goals not in ("synthetic", "human"):
            raise ValueError(f'goals is {goals!r}; it must be "synthetic" or "human"')
        if tagger not in ("spacy", "rules", None):
            raise ValueError(f'tagger is {tagger!r}; it must be "spacy" or "rules"')
        if max_steps is None:
            max_steps = _SMALL_STEPS if catalogue == "small" else _STEPS
        if max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}; it must be at least 1")
        self.width, self.height, self.max_steps = width, height, max_steps
        self.shop = open_shop(catalogue, goals) if tagger is None else open_shop(catalogue, goals, tagger)
        self.action_space: gym.spaces.Text = gym.spaces.Text(
            min_length=1, max_length=MAX_ACTION_CHARACTERS, charset=string.printable
        )
        self.observation_space = observation_space(1, height, width)
        self.steps, self.state, self.goal_number = 0, State(), 0
        self._buyer = Buyer(self.shop, self.goal)
        self._frame: NDArray[np.uint8] | None = None  # of the page that is open now, once it has been shown
        self._test = [*split(len(self.shop.goals), "test")]
        if self.shop.catalogue.every_limit:  # a few goals more say more; nothing is developed on them
            self._test += split(len(self.shop.goals), "dev")
        self._train = split(len(self.shop.goals), "train")
        self._train_weights = np.array(list(accumulate(self.shop.goals[i].weight for i in self._train)))
        self._screen = open_screen(pictures, self.shop, width, height)

    @property
    def goal(self) -> Goal:
        """What is wanted in this episode."""
        return self.shop.goals[self.goal_number]

    @property
    def action_names(self) -> tuple[str, ...]:
        """What can be clicked; on the search page, one search for words of the instruction stands for all."""
        if self.state.page == "search":
            return (f"search[{keywords(self.goal)}]",)
        return tuple(f"click[{text}]" for text in self.shop.clicks(self.state))

    def parse_action(self, text: str) -> str | None:
        """The action that `text` names, in small letters, or None if it names none that can be done now."""
        if self.shop.follow(self.state, text) is None:
            return None
        verb, argument = parse(text) or ("", "")
        return f"{verb}[{argument}]"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws a goal and opens the search page."""
        super().reset(seed=seed)
        self._begin(self._draw_goal(test=held_out(seed)))
        return self._observation(), {}

    def step(self, action: str | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes an action; a text that names none that can be done now is taken like None.

        Raises:
            ValueError: `action` is neither None nor a text.
        """
        if action is not None and not isinstance(action, str):
            raise ValueError(f"action {action!r} is neither None nor a text")
        self.steps += 1
        after = None if action is None else self.shop.follow(self.state, action)
        if after is not None:
            self.state, self._frame = after, None
        terminated = self.state.page == "done" and after is not None
        truncated = not terminated and self.steps >= self.max_steps
        score = self.shop.score(self.state, self.goal).total if terminated else 0.0
        info: dict[str, Any] = {"invalid": after is None}
        if terminated or truncated:
            info.update(success=score == 1.0, score=score)
        return self._observation(), self.invalid_reward if after is None else score, terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The picture of the page, (height, width, 3) uint8."""
        if self._frame is None:
            self._frame = self._screen.show(self.goal_number, self.state)
        return self._frame.copy()

    def describe(self) -> str:
        """What the next decision depends on, such as "results. b01 fits red clay mug, under 30."."""
        return self._buyer.describe(self.state)

    def expert_action(self) -> str | None:
        """The next step of a short way to a score of 1, with full knowledge of goal and catalogue; None at the end."""
        return self._buyer.next_action(self.state)

    def close(self) -> None:
        """Closes the page, and with the last environment of the process the browser and the server too."""
        self._screen.close()

    def _begin(self, goal_number: int) -> None:
        """Opens the search page for a customer with this goal."""
        self.steps, self.state, self.goal_number, self._frame = 0, State(), goal_number, None
        self._buyer = Buyer(self.shop, self.goal)

    def _draw_goal(self, *, test: bool) -> int:
        if test:
            return int(self.np_random.choice(self._test))
        at = np.searchsorted(self._train_weights, self.np_random.random() * self._train_weights[-1], side="right")
        return self._train[min(int(at), len(self._train) - 1)]

    @property
    def instruction(self) -> str:
        """See `Env`."""
        return prompts.instruction(self.prompt_style, self.goal)

    @property
    def state_text(self) -> str:
        """See `Env`."""
        return prompts.state_text(self.prompt_style, self.shop, self.state, self.goal)

    def _observation(self) -> Observation:
        text = prompts.prompt(self.prompt_style, self.shop, self.state, self.goal, self.action_names)
        return {"frames": self.render()[None], "prompt": text}
