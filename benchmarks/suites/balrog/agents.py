"""The two agents that BALROG's leaderboard compares: `naive` answers with an action, `cot` reasons first.

Source: balrog-ai/BALROG, `balrog/agents/naive.py` and `chain_of_thought.py`. How an answer is read is theirs to the
letter; the questions say the same in other words.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.harness.options import Style
from benchmarks.harness.task import unwrap_action
from benchmarks.suites.balrog.environment import Environment, Observation
from benchmarks.suites.balrog.history import History
from benchmarks.suites.balrog.suite import AgentKind
from vldac.models.conversation import Message

_NO_LETTERS = re.compile(r"[^a-zA-Z\s:]")


@dataclass(frozen=True)
class Reply:
    """An answer as an agent reads it.

    Attributes:
        action: what is held against the actions of the environment.
        reasoning: the whole answer, where the agent remembers it.
    """

    action: str
    reasoning: str | None = None


class Agent(ABC):
    """Turns observations into conversations, and answers into actions.

    Args:
        history: of the episode.
        terse: read the JSON answers of small models; see `benchmarks.harness.task.unwrap_action`.
    """

    question: ClassVar[str]

    def __init__(self, history: History, *, terse: bool = False) -> None:
        self.history, self.terse = history, terse

    def ask(self, observation: Observation) -> tuple[Message, ...]:
        """The conversation that asks for the next action."""
        self.history.see(observation)
        return self.history.messages(self.question)

    def hear(self, text: str) -> str:
        """The action that an answer names; the answer becomes part of the history."""
        reply = self.read(unwrap_action(text) if self.terse else text)
        self.history.act(reply.action, reply.reasoning)
        return reply.action

    @staticmethod
    @abstractmethod
    def read(text: str) -> Reply:
        """What an answer says, whatever it is."""


class Naive(Agent):
    """Answers with an action and nothing else."""

    question = (
        "Answer with exactly one of the actions listed above and write nothing besides it. Every answer must be an "
        "action for as long as the episode lasts."
    )

    @staticmethod
    def read(text: str) -> Reply:
        """Letters, whitespace and colons of the answer.

        The whitespace around the answer goes before the other characters do (`balrog/client.py`), so that what is left
        of "1. go forward" begins with a blank and is no action.
        """
        return Reply(_letters(text.strip()))


class ChainOfThought(Agent):
    """Reasons, then names an action; the last reasoning is shown again at the next step."""

    question = (
        "Before you act, reason step by step about which action is best.\n"
        "Then close your answer with one single action, written as: ACTION: <action>"
    )

    @staticmethod
    def read(text: str) -> Reply:
        """What follows the last "ACTION:", or the whole answer where there is none; letters, whitespace and colons."""
        reasoning = text.strip()
        return Reply(_letters(reasoning).rsplit("ACTION:", 1)[-1].strip(), reasoning)


AGENTS: dict[AgentKind, type[Agent]] = {"naive": Naive, "cot": ChainOfThought}

#: Observations that are shown with their text: BALROG's own, and one for models of a few million parameters.
TEXT_HISTORY = {"full": 16, "terse": 1}
#: Observations that are shown with their picture, as in BALROG's runs of vision-language models.
IMAGE_HISTORY = 1
REASONING_HISTORY = 1


def make_agent(kind: AgentKind, environment: Environment, style: Style = "full") -> Agent:
    """An agent for the episode that the environment has just begun.

    Args:
        kind: of agent.
        environment: is asked for its instruction.
        style: `terse` tells only the first line of the instruction and the actions, shows no past, and also reads the
            project's JSON answer.
    """
    instruction = environment.instruction()
    if style == "terse":
        instruction = instruction.partition("\n")[0]
        if environment.actions:
            instruction += "\nActions: " + ", ".join(environment.actions)
    history = History(instruction, TEXT_HISTORY[style], IMAGE_HISTORY, REASONING_HISTORY)
    return AGENTS[kind](history, terse=style == "terse")


def _letters(text: str) -> str:
    return _NO_LETTERS.sub("", text)
