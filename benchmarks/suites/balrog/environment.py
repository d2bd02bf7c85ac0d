"""The one interface of BALROG's six environments: a text and a picture in, one action in words out.

Source: balrog-ai/BALROG, `balrog/environments/env_wrapper.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from vldac.models.conversation import Image


@dataclass(frozen=True)
class Observation:
    """What an agent is shown at one step.

    Attributes:
        long_term_context: the part that stays in the history of the conversation.
        short_term_context: the part that only the newest observation shows.
        image: (H, W, 3) uint8, None where the environment has no picture.
    """

    long_term_context: str
    short_term_context: str = ""
    image: Image | None = None


class Environment(ABC):
    """One task of one environment; `reset` begins an episode.

    Attributes:
        actions: the whole action space in words; empty where any text is an action (TextWorld).
        default_action: taken where the answer is none of the actions.
        max_steps: after which the evaluator ends an episode.
    """

    actions: tuple[str, ...]
    default_action: str
    max_steps: int

    @abstractmethod
    def reset(self, seed: int) -> Observation:
        """Begins the episode of this seed: the same seed, the same episode, always."""

    @abstractmethod
    def step(self, action: str) -> tuple[Observation, float, bool, bool]:
        """Takes one of the actions: the next observation, the reward, terminated, truncated."""

    @abstractmethod
    def instruction(self) -> str:
        """What the agent is told once, before the episode: the game, the goal, the actions."""

    @abstractmethod
    def progression(self) -> float:
        """How far the episode has come, in [0, 1], by BALROG's rule for this environment."""

    def check(self, text: str) -> str:
        """The action that `text` is, to the letter, or the default action."""
        return text if text in self.actions else self.default_action

    def close(self) -> None:  # noqa: B027  # most environments hold nothing that must be let go
        """Lets go of processes and files."""
