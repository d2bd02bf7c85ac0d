"""From observations to actions, in one place: encode, generate, decode, parse."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from envs.base import Observation
from vldac import parsing, policy
from vldac.config import RolloutConfig
from vldac.engines.base import Engine
from vldac.engines.transformers import TransformersEngine
from vldac.models.picture_cache import PictureCache
from vldac.models.vlm import VLM, Prompt, Response
from vldac.parsing import ParsedResponse


@dataclass(frozen=True)
class Decision:
    """What a policy did with one observation.

    Attributes:
        prompt: what the model was shown.
        response: the tokens that it wrote.
        text: the response, word for word.
        parsed: as it was read; None if it could not be.
        truncated: whether the response was cut off at its length limit.
    """

    prompt: Prompt
    response: Response
    text: str
    parsed: ParsedResponse | None
    truncated: bool

    @property
    def action(self) -> str | None:
        """The action in the model's words; None if the response names none."""
        return self.parsed.action if self.parsed else None


class Actor:
    """A policy that answers batches of observations.

    Args:
        vlm: the policy.
        max_new_tokens: length limit of a response.
        temperature: of sampling; 0 takes the most likely token.
        engine: samples the responses; None samples with the model itself.
        stop_at_answer: whether a response ends where its answer is closed (`vldac.engines.stopping.Stopping`).
    """

    def __init__(
        self,
        vlm: VLM,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        engine: Engine | None = None,
        stop_at_answer: bool = False,
    ) -> None:
        self.stop_at_answer = stop_at_answer
        self.vlm, self.max_new_tokens, self.temperature = vlm, max_new_tokens, temperature
        self.engine = engine or TransformersEngine(vlm)

    @classmethod
    def of(cls, vlm: VLM, rollout: RolloutConfig, engine: Engine | None = None) -> Actor:
        """A policy that answers as it does in training."""
        return cls(
            vlm,
            max_new_tokens=rollout.max_new_tokens,
            temperature=rollout.temperature,
            engine=engine,
            stop_at_answer=rollout.stop_at_answer,
        )

    def at(self, temperature: float) -> Actor:
        """The same policy with another temperature."""
        actor = copy.copy(self)
        actor.temperature = temperature
        return actor

    def encode(self, observations: Sequence[Observation], pictures: PictureCache | None = None) -> list[Prompt]:
        """Prompts of B observations; `pictures` are those that have been encoded already."""
        return self.vlm.encoder([self.vlm.conversation(observation) for observation in observations], pictures)

    def act(self, observations: Sequence[Observation], seeds: Sequence[int] | None = None) -> list[Decision]:
        """Answers B observations; see `answer`."""
        return self.answer(self.encode(observations), seeds)

    def answer(self, prompts: Sequence[Prompt], seeds: Sequence[int] | None = None) -> list[Decision]:
        """Answers B prompts that have been encoded.

        Args:
            prompts: B prompts.
            seeds: of each response's sampling; may be left out at temperature 0.
        """
        responses = self.engine.generate(
            prompts,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seeds=seeds,
            stop_at_answer=self.stop_at_answer,
        )
        texts = [self.vlm.decode(response.token_ids) for response in responses]
        return [
            Decision(
                prompt,
                response,
                text,
                parsing.parse_response(text),
                truncated=int(response.token_ids[-1]) != self.vlm.end_id
                and not (self.stop_at_answer and parsing.is_settled(text)),
            )
            for prompt, response, text in zip(prompts, responses, texts, strict=True)
        ]


def load_actor(directory: str | Path, base: str | Path) -> Actor:
    """Loads a policy directory and its base, ready to act; responses may be as long as they were in training.

    Raises:
        OSError: either directory is missing or incomplete.
    """
    directory = Path(directory)
    config = policy.recorded_config(directory, "model", "rollout")
    return Actor.of(policy.load(directory, base, config.model), config.rollout).at(0.0)


def action_mask(token_ids: Tensor, decode: Callable[[Tensor], str]) -> Tensor:
    """Which tokens of a response name its action.

    Args:
        token_ids: (R,) int64.
        decode: from token ids to their text.

    Returns:
        (R,) bool, true from the token in which the key "action" begins to the end. All false where the response cannot
        be parsed.
    """
    start = parsing.action_start(decode(token_ids))
    if start is None:
        return torch.zeros(len(token_ids), dtype=torch.bool)
    first = bisect_left(range(len(token_ids)), True, key=lambda i: len(decode(token_ids[: i + 1])) > start)
    return torch.arange(len(token_ids)) >= first
