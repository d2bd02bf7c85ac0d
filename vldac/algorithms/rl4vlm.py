"""RL4VLM: PPO on steps, thoughts weighed less than actions (arXiv 2405.10292)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from vldac.algorithms.base import PolicyLoss, TokenBatch, clipped_step_loss
from vldac.algorithms.vldac import VLDAC, VLDACOptions


class RL4VLMOptions(VLDACOptions):
    """Options of RL4VLM.

    Attributes:
        stop_gradient: whether the gradient of the value loss stops at the critic's input. In the original it reaches
            the backbone.
        thoughts_weight: lambda, the weight of the thoughts in the logarithm of a response's probability.
    """

    stop_gradient: bool = False
    thoughts_weight: Annotated[float, Field(ge=0, le=1)] = 0.5


class RL4VLM(VLDAC):
    """Reinforcement learning for vision-language models.

    Step-level GAE as in VL-DAC, but one clipped ratio a step, from lambda x log p(thoughts) + log p(action). The action
    is what `TokenBatch.action_mask` covers. A response without a readable action is all thoughts: it has the
    environment's penalty, which belongs to its tokens, and none of them named an action. (The released code counts its
    last four tokens as the action.)
    """

    Options = RL4VLMOptions
    uses_action_mask = True
    ratio_level = "step"

    def policy_loss(self, batch: TokenBatch) -> PolicyLoss:
        """PPO's clipped surrogate on each step."""
        assert batch.action_mask is not None
        weights = torch.where(batch.action_mask, 1.0, self.options.thoughts_weight)
        log_ratios = torch.where(batch.mask, weights * (batch.log_probs - batch.old_log_probs), 0.0).sum(-1)
        return clipped_step_loss(log_ratios.exp(), batch.advantages, self.train.clip)
