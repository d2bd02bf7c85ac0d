"""ALFWorld behind the interface of `Env`."""

from __future__ import annotations

import string
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.alfworld import words
from envs.alfworld.ahead import ahead
from envs.alfworld.drawing import draw
from envs.alfworld.engine import REFUSAL, Engine
from envs.alfworld.expert import next_command
from envs.alfworld.game import SPLITS, TASKS, Game
from envs.alfworld.games import STEP_LIMITS
from envs.alfworld.knowledge import Knowledge
from envs.alfworld.reward import goal_conditions
from envs.alfworld.sources import open_games
from envs.base import Env, Observation, PromptStyle, held_out, match_action, observation_space

_DATA = ("auto", "official", "generated")


#: Arguments of `open_games`.
Source = tuple[str, tuple[str, ...], str, int | None, str]


class ALFWorld(Env):
    """Household tasks in text: find things, clean, heat or cool them, and put them where they belong.

    Observations: one picture (1, height, width, 3) uint8, drawn here from what the episode has revealed and labeled
    as drawn, and the prompt, which tells what the game answered last and what it accepts now.

    Actions: any command that the game accepts now, as a text; `action_names` lists them without "help" and, in small
    rooms and terse prompts, without "look", "inventory" and "examine ...", which tell what the prompt tells anyway.
    `step(None)`, or with another text, passes time, changes nothing and is answered "Nothing happens.".

    Rewards: after every step `success_reward` if the goal holds, plus the share of ALFRED's goal conditions that hold
    (see `goal_conditions`), plus `invalid_reward` if the action was not accepted. With the defaults that is
    `compute_reward` of RL4VLM (https://github.com/RL4VLM/RL4VLM, VLM_PPO_ALF/alf_utils.py): 50 * won +
    goal_condition_success_rate - 1 * illegal. The share is that of the state, paid again at every step, not its
    increase. A comment beside that line gives 10 for success; `success_reward=10` is that variant.

    Episodes terminate when the goal holds, which is the only success, and are truncated after 50 steps
    (`rl.training.max_nb_steps_per_episode` of alfworld's configuration), in small rooms after 20. The last `info` has
    the task type in `task`.

    Games: seeds of evaluation take games of valid_unseen, all others games of train (`split="auto"`). Which game it is
    comes from `np_random`. Generated games are kept on disk and always won by the expert within the limit.

    Args:
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        prompt_style: see `Env`.
        invalid_reward: what is added for an answer that names no accepted command; None takes -1.
        tasks: "all", or task types separated by commas; of several, each is as likely.
        rooms: "all", or "small" for generated rooms of three or four receptacles and two or three things.
        split: "auto", "train", "valid_seen" or "valid_unseen".
        games: how many games of each task type a split has; None takes 200 generated ones, or all official ones.
        data: "official" for downloaded games, "generated" for games made here, or "auto": official ones in each split
            that has some of every task type, generated ones elsewhere.
        max_steps: steps until truncation; None takes the limit above.
        success_reward: see above.

    Raises:
        ValueError: an option has a value that is not accepted; the message names those that are.
        SimulatorError: official games are asked for and not there.
    """

    default_invalid_reward: ClassVar[float] = -1.0

    def __init__(
        self,
        *,
        width: int = 300,
        height: int = 300,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
        tasks: str = "all",
        rooms: str = "all",
        split: str = "auto",
        games: int | None = None,
        data: str = "auto",
        max_steps: int | None = None,
        success_reward: float = 50.0,
    ) -> None:
        super().__init__(prompt_style=prompt_style, invalid_reward=invalid_reward)
        self._tasks = _task_types(tasks)
        _check("rooms", rooms, tuple(STEP_LIMITS))
        _check("split", split, ("auto", *SPLITS))
        _check("data", data, _DATA)
        for name, number in (("games", games), ("max_steps", max_steps)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1")
        self.width, self.height = width, height
        self.max_steps = STEP_LIMITS[rooms] if max_steps is None else max_steps
        self.success_reward = float(success_reward)
        self._split = split
        self._brief = rooms == "small" or prompt_style == "terse"
        self._sources = {
            name: (name, self._tasks, rooms, games, data)
            for name in (("train", "valid_unseen") if split == "auto" else (split,))
        }
        for source in self._sources.values():
            open_games(*source)  # what is missing is said now
        self._engine = Engine()
        self._game: Game | None = None
        self._known: Knowledge | None = None
        self._feedback, self._steps = "", 0
        self.action_space: gym.spaces.Text = gym.spaces.Text(min_length=1, max_length=128, charset=string.printable)
        self.observation_space = observation_space(1, height, width)

    @property
    def action_names(self) -> tuple[str, ...]:
        """See `Env`; they change from step to step."""
        return words.worth_listing(self._engine.commands, brief=self._brief)

    def parse_action(self, text: str) -> str | None:
        """The command that `text` names, ignoring case and spacing, or None if the game does not accept it now."""
        index = match_action(text, self._engine.commands)
        return None if index is None else self._engine.commands[index]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins a game.

        Raises:
            SimulatorError: a game can be neither read nor made.
        """
        super().reset(seed=seed)
        source, task, number = self._draw(self.np_random, seed)
        self._game = open_games(*source).get(task, number)
        self._engine.start(self._game)
        self._known = Knowledge(self._engine.facts, self._engine.entities)
        self._feedback, self._steps = words.scene(self._engine.feedback), 0
        return self._observation(), {}

    def prepare(self, seed: int) -> None:
        """Has the game of the next episode made in another process; see `Env`."""
        source, task, number = self._draw(gym.utils.seeding.np_random(seed)[0], seed)
        if not open_games(*source).is_made(task, number):
            ahead().ask(source, task, number)

    def _draw(self, rng: np.random.Generator, seed: int | None) -> tuple[Source, str, int]:
        """Where the game of an episode comes from, its task type and its number."""
        split = self._split if self._split != "auto" else "valid_unseen" if held_out(seed) else "train"
        source = self._sources[split]
        task = self._tasks[int(rng.integers(len(self._tasks)))]
        return source, task, int(rng.integers(open_games(*source).count(task)))

    def step(self, action: str | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carries out a command, or lets time pass where the game does not accept it.

        Raises:
            ValueError: `action` is neither None nor a text.
            RuntimeError: `reset` has not been called.
        """
        if action is not None and not isinstance(action, str):
            raise ValueError(f"action {action!r} is not a text")
        game, known = self._running()
        invalid = action not in self._engine.commands
        self._steps += 1
        if action is None or invalid:
            self._feedback = REFUSAL
        else:
            self._engine.step(action)
            self._feedback = self._engine.feedback
            known.observe(action, self._engine.facts, self._engine.entities)
        met, conditions = goal_conditions(game.goal, self._engine.facts)
        won = self._engine.won
        reward = self.success_reward * won + met / conditions + self.invalid_reward * invalid
        truncated = not won and self._steps >= self.max_steps
        info: dict[str, Any] = {"invalid": invalid}
        if won or truncated:
            info.update(success=won, task=game.goal.task)
        return self._observation(), reward, won, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """What has been revealed so far, (height, width, 3) uint8."""
        return draw(self._running()[1], self.width, self.height)

    def describe(self) -> str:
        """What the next decision depends on, such as "need mug 1 in drawer 1, not here. holding nothing. at desk 1"."""
        game, known = self._running()
        return (words.describe_briefly if self._brief else words.describe)(game.goal, known)

    def expert_action(self) -> str | None:
        """The next command of a player that knows what the episode has revealed; see `next_command`."""
        game, known = self._running()
        return next_command(game.goal, known, self._engine.commands)

    def close(self) -> None:
        """Frees the game, and ends the process that makes others ahead; closing twice is allowed."""
        self._engine.close()
        ahead().close()

    def _running(self) -> tuple[Game, Knowledge]:
        if self._game is None or self._known is None:
            raise RuntimeError("call reset first")
        return self._game, self._known

    @property
    def instruction(self) -> str:
        """See `Env`."""
        game, _ = self._running()
        return words.task(game.goal) if self.prompt_style == "terse" else words.plain(game.text)

    @property
    def state_text(self) -> str:
        """See `Env`."""
        game, known = self._running()
        if self.prompt_style == "terse":
            return words.terse_state(game.goal, known)
        return words.full_state(self._feedback, known)

    def _observation(self) -> Observation:
        game, known = self._running()
        if self.prompt_style == "terse":
            prompt = words.terse_prompt(game.goal, known, self.action_names)
        else:
            prompt = words.full_prompt(game.text, self._feedback, known, self.action_names)
        return {"frames": self.render()[None], "prompt": prompt}


def _task_types(tasks: str) -> tuple[str, ...]:
    """The task types that an option names."""
    chosen = TASKS if tasks == "all" else tuple(dict.fromkeys(name.strip() for name in str(tasks).split(",")))
    for name in chosen:
        if name not in TASKS:
            raise ValueError(f'tasks is {tasks!r}; it must be "all" or, separated by commas, of {", ".join(TASKS)}')
    return chosen


def _check(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(accepted)}")
