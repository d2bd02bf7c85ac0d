"""GRPO: returns normalized within groups of episodes (arXiv 2402.03300), with what Dr. GRPO and DAPO change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from vldac import losses
from vldac.advantages import group_relative
from vldac.algorithms.base import PolicyLoss, RolloutTensors, SumOverRanks, Targets, TokenBatch
from vldac.algorithms.groups import GroupAlgorithm, GroupOptions

if TYPE_CHECKING:
    from torch import Tensor


class GRPOOptions(GroupOptions):
    """Options of GRPO.

    Attributes:
        scale: whether to divide by the standard deviation of a group's returns. Dr. GRPO (arXiv 2503.20783) does not.
        length_normalization: what the sum over the tokens of a response is divided by. "response": its length, as GRPO
            does. "constant": `length_constant`, as Dr. GRPO does. "rollout": the mean length of all responses of the
            rollout, so that every token weighs the same, as in DAPO (arXiv 2503.14476).
        length_constant: for "constant"; the length limit of a response is usual.
        clip_higher: how far a ratio may rise above 1, as in DAPO; None for `train.clip`, how far it may fall below.
    """

    scale: bool = True
    length_normalization: Literal["response", "constant", "rollout"] = "response"
    length_constant: Annotated[int, Field(ge=1)] = 24
    clip_higher: Annotated[float, Field(gt=0)] | None = None


class GRPO(GroupAlgorithm):
    """Group relative policy optimization.

    An output, in the original's words, is one response: the loss is a mean over responses, and all responses of an
    episode have its advantage. The KL penalty of the learner is a mean over tokens, then over responses, whatever
    `length_normalization` is.
    """

    Options = GRPOOptions

    def compare(self, returns: Tensor) -> Tensor:
        """Each return beside its group's mean and, if told so, standard deviation."""
        return group_relative(returns, scale=self.options.scale)

    def targets(self, rollout: RolloutTensors, sum_over_ranks: SumOverRanks) -> Targets:
        """As of every group algorithm, divided by what the sum over a response's tokens is to be divided by."""
        targets = super().targets(rollout, sum_over_ranks)
        if self.options.length_normalization == "response":  # its length is at hand where the loss is made
            return targets
        length: float | Tensor = self.options.length_constant
        if self.options.length_normalization == "rollout":
            lengths = rollout.response_lengths.double()
            tokens, responses = sum_over_ranks(torch.stack([lengths.sum(), torch.tensor(lengths.numel()).double()]))
            length = (tokens / responses).float()
        return Targets([advantage / length for advantage in targets.advantages], metrics=targets.metrics)

    def policy_loss(self, batch: TokenBatch) -> PolicyLoss:
        """The clipped surrogate of each token, a sum or mean over tokens, a mean over steps."""
        clip, higher = self.train.clip, self.options.clip_higher
        ratios = losses.token_ratios(batch.log_probs, batch.old_log_probs, batch.mask)
        surrogate = losses.clipped_surrogate(ratios, losses.of_tokens(batch.advantages), clip, higher)
        if self.options.length_normalization == "response":
            objective = losses.step_mean(surrogate, batch.mask)
        else:
            objective = torch.where(batch.mask, surrogate, 0.0).sum(-1).mean()
        clipped = losses.step_mean(losses.outside(ratios, clip, higher), batch.mask)
        return PolicyLoss(-objective, ratios, {"policy/clip_fraction": clipped})
