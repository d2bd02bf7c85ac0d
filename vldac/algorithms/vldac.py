"""VL-DAC: PPO on tokens, one advantage and one value an environment step (arXiv 2508.04280)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vldac.advantages import gae
from vldac.algorithms.base import (
    Algorithm,
    AlgorithmOptions,
    PolicyLoss,
    RolloutTensors,
    SumOverRanks,
    Targets,
    TokenBatch,
    clipped_token_loss,
    normalize,
)

if TYPE_CHECKING:
    from vldac.config import TrainConfig


class VLDACOptions(AlgorithmOptions):
    """Options of VL-DAC.

    Attributes:
        normalize_advantages: to mean 0 and standard deviation 1 over the rollout of all ranks.
        stop_gradient: whether the gradient of the value loss stops at the critic's input. Without it the critic is no
            longer decoupled from the policy.
    """

    normalize_advantages: bool = True
    stop_gradient: bool = True


class VLDAC(Algorithm):
    """Vision-Language Decoupled Actor-Critic.

    The advantage is one number a step, from GAE over environment steps; every token of the step's response shares it
    and is clipped by itself. The critic reads the last prompt token and, unless told otherwise, cannot change the
    backbone.
    """

    Options = VLDACOptions

    def __init__(self, train: TrainConfig, options: Any) -> None:
        super().__init__(train, options)
        self.stop_gradient = options.stop_gradient

    def targets(self, rollout: RolloutTensors, sum_over_ranks: SumOverRanks) -> Targets:
        """Step-level GAE; the critic's returns are the advantages plus the old values."""
        values = torch.stack(list(rollout.values)).view_as(rollout.rewards)
        advantages = gae(
            rollout.rewards,
            values,
            rollout.next_values,
            rollout.terminated,
            rollout.truncated,
            self.train.gamma,
            self.train.gae_lambda,
            rollout.lost,
        )
        returns = advantages + values
        if self.options.normalize_advantages:
            advantages = normalize(advantages, sum_over_ranks).masked_fill(rollout.lost, 0.0)
        return Targets(advantages.flatten().unbind(), returns.flatten().unbind())

    def policy_loss(self, batch: TokenBatch) -> PolicyLoss:
        """PPO's clipped surrogate on each token by itself."""
        return clipped_token_loss(batch, self.train.clip)
