"""What a rollout needs of whatever generates text, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vldac.models.vlm import Prompt, Response


class Engine(Protocol):
    """Samples responses from the policy that is being trained.

    An engine samples from exactly the distribution that the learner scores (`VLM.token_log_probs`): softmax of the
    logits over the temperature, forbidden tokens left out, no top-k, no top-p, no penalty.

    Attributes:
        exact: whether responses come from the learner's own network, so that their log-probabilities are the learner's
            to rounding. Those of any other engine are weighed (`vldac.importance`).
    """

    exact: bool

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float,
        seeds: Sequence[int] | None = None,
        stop_at_answer: bool = False,
    ) -> list[Response]:
        """Samples one response a prompt.

        Args:
            prompts: B prompts.
            max_new_tokens: a response that has not ended by then is cut off.
            temperature: 0 takes the most likely token.
            seeds: of each response, 64 bits at most. A response is decided by its prompt, the weights and its seed, and
                not by what else is in the batch. May be left out at temperature 0.
            stop_at_answer: whether a response ends with the token that closes its answer, where no more could change
                how it is read (`vldac.parsing.is_settled`), besides the end of the turn.

        Returns:
            B responses with the log-probabilities of their tokens.
        """
        ...

    def update_weights(self, version: int) -> None:
        """Takes over the learner's weights before the next `generate`.

        Args:
            version: updates that the weights have seen.
        """
        ...

    def close(self) -> None:
        """Ends whatever the engine has started."""
        ...
