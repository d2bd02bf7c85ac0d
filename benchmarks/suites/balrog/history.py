"""What an agent remembers of an episode, and the conversation that it makes of it.

Source: balrog-ai/BALROG, `balrog/prompt_builder/history.py`, whose rules, surprising ones included, hold here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from benchmarks.suites.balrog.environment import Observation
from vldac.models.conversation import Image, Message


@dataclass(frozen=True)
class _Seen:
    text: str
    image: Image | None


@dataclass
class _Done:
    action: str
    reasoning: str | None


class History:
    """The last observations and actions of an episode.

    Args:
        instruction: the first message, on the user's side as BALROG sends it.
        texts: how many observations are shown with their text, the newest ones.
        images: how many observations are shown with their picture, the newest ones that have one.
        reasonings: how many actions are shown with the reasoning before them, the newest ones.
    """

    def __init__(self, instruction: str, texts: int = 16, images: int = 1, reasonings: int = 1) -> None:
        self.instruction = instruction
        self.texts = texts
        self.images = images
        self.reasonings = reasonings
        self._events: deque[_Seen | _Done] = deque(maxlen=2 * max(texts, images))
        self._short_term_context = ""

    def see(self, observation: Observation) -> None:
        """Takes in the newest observation."""
        self._events.append(_Seen(observation.long_term_context, observation.image))
        self._short_term_context = observation.short_term_context

    def act(self, action: str, reasoning: str | None = None) -> None:
        """Takes in an answer; an empty one leaves no trace."""
        if action:
            self._events.append(_Done(action, reasoning))

    def messages(self, question: str = "") -> tuple[Message, ...]:
        """The conversation, which ends with the newest observation.

        Args:
            question: is put below the newest observation's text.
        """
        # A reasoning that was once left out stays left out, whatever the window shows later.
        left = self.reasonings
        for event in reversed(self._events):
            if isinstance(event, _Done) and event.reasoning is not None:
                if left > 0:
                    left -= 1
                else:
                    event.reasoning = None
        messages: list[Message] = []
        texts, images = self.texts, self.images
        for index, event in enumerate(reversed(self._events)):
            if isinstance(event, _Done):
                said = event.action if event.reasoning is None else f"Previous plan:\n{event.reasoning}"
                messages.append(Message("assistant", (said,)))
                continue
            parts = ["Observation:"]
            if index == 0:
                parts = ["Current Observation:"]
                if self._short_term_context:
                    parts.append(self._short_term_context)
            if texts > 0:
                parts.append(event.text)
                texts -= 1
            image = event.image if images > 0 else None
            if image is not None:
                parts.append("Image observation provided.")
                images -= 1
            text = "\n".join(parts) + (f"\n\n{question}" if question and index == 0 else "")
            messages.append(Message("user", (text,) if image is None else (text, image)))
        if self.instruction:
            messages.append(Message("user", (self.instruction,)))
        return tuple(reversed(messages))
