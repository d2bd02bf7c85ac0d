"""Many episodes that advance together: each turn asks the runner for one action in every one of them.

Source of an episode's course: balrog-ai/BALROG, `balrog/evaluator.py`, `Evaluator.run_episode`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice

from benchmarks.harness.records import Record
from benchmarks.harness.task import Request, Runner
from benchmarks.suites.balrog.agents import Agent
from benchmarks.suites.balrog.environment import Environment
from benchmarks.suites.balrog.tasks import Episode
from vldac.models.conversation import Message, plain

TEMPERATURE = 1.0
#: What a record keeps of an episode: its first actions, and their first characters.
MAX_ACTIONS, MAX_CHARACTERS = 1000, 200


class Player:
    """One episode while it is played.

    Args:
        episode: which one.
        environment: of its task; the player does not close it.
        make_agent: makes an agent for the episode that the environment has begun.
        max_new_tokens: of an answer.
    """

    def __init__(
        self,
        episode: Episode,
        environment: Environment,
        make_agent: Callable[[Environment], Agent],
        max_new_tokens: int,
    ) -> None:
        self.episode = episode
        self._environment = environment
        self._max_new_tokens = max_new_tokens
        self._observation = environment.reset(episode.seed)
        self._agent = make_agent(environment)
        self._max_steps = min(environment.max_steps, episode.max_steps or environment.max_steps)
        self._prompt: tuple[Message, ...] = ()
        self._actions: list[str] = []
        self._answer, self._action = "", ""
        self._steps = self._invalid = 0
        self._return = 0.0
        self.done = False

    def ask(self) -> Request:
        """Asks for the next action."""
        messages = self._agent.ask(self._observation)
        self._prompt = self._prompt or messages
        return Request(messages, self._max_new_tokens, TEMPERATURE, sampling_seed(self.episode, self._steps))

    def hear(self, answer: str) -> None:
        """Takes the action that the answer names, or the default action, which the next observation then tells."""
        wanted = self._agent.hear(answer)
        action = self._environment.check(wanted)
        observation, reward, terminated, truncated = self._environment.step(action)
        self._answer, self._action = answer, action
        self._steps += 1
        self._return += reward
        if len(self._actions) < MAX_ACTIONS:
            self._actions.append(action[:MAX_CHARACTERS])
        if action != wanted:
            self._invalid += 1
            note = (
                "\n\nYour previous output did not contain a valid action. "
                f"Defaulted to action: {action}\n\nObservation:\n"
            )
            observation = replace(observation, long_term_context=note + observation.long_term_context)
        self._observation = observation
        self.done = terminated or truncated or self._steps >= self._max_steps

    def record(self) -> Record:
        """The episode, when it is done."""
        return Record(
            id=self.episode.id,
            task=f"{self.episode.environment}/{self.episode.task}",
            prompt=plain(self._prompt),
            images=(),
            answer=self._answer,
            parsed=self._action[:MAX_CHARACTERS],
            score=self._environment.progression(),
            metrics={"steps": self._steps, "return": self._return, "invalid": self._invalid / self._steps},
            details={"seed": self.episode.seed, "actions": self._actions},
        )


def play(
    episodes: Iterable[Episode],
    runner: Runner,
    *,
    make_environment: Callable[[Episode], Environment],
    make_agent: Callable[[Environment], Agent],
    max_new_tokens: int,
    batch_size: int,
    done: Callable[[Record], None],
    played: Callable[[int], None] = lambda _: None,
) -> None:
    """Plays episodes, at most `batch_size` of them at once, and hands over the record of each as soon as it ends.

    Whatever decides an answer besides the runner, its conversation and its seed, is the same whoever else is asked
    in the same turn. `played` is told after each turn how many steps it was.
    """
    waiting = iter(episodes)
    with ExitStack() as stack:
        playing: list[tuple[Player, ExitStack]] = []
        while True:
            for episode in islice(waiting, batch_size - len(playing)):
                resources = stack.enter_context(ExitStack())
                environment = resources.enter_context(closing(make_environment(episode)))
                playing.append((Player(episode, environment, make_agent, max_new_tokens), resources))
            if not playing:
                return
            requests = [player.ask() for player, _ in playing]
            for (player, resources), answer in zip(playing, runner.answer(requests), strict=True):
                player.hear(answer)
                if player.done:
                    done(player.record())
                    resources.close()
            played(len(playing))
            playing = [(player, resources) for player, resources in playing if not player.done]


def sampling_seed(episode: Episode, step: int) -> int:
    """The seed of one answer, below 2**32: of the episode and the step alone."""
    digest = hashlib.sha256(f"{episode.id}/{episode.seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:4])
