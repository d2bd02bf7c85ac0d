"""VL-DAC: PPO on tokens, one advantage and one value an environment step (arXiv 2508.04280)."""

from __future__ import annotations

import torch

from vldac import losses
from vldac.advantages import gae
from vldac.algorithms.base import (
    Algorithm,
    AlgorithmOptions,
    PolicyLoss,
    RolloutTensors,
    SumOverRanks,
    Targets,
    TokenBatch,
    normalize,
)


class VLDACOptions(AlgorithmOptions):
    """Options of VL-DAC.

    Attributes:
        normalize_advantages: to mean 0 and standard deviation 1 over the rollout of all ranks.
    """

    normalize_advantages: bool = True


class VLDAC(Algorithm):
    """Vision-Language Decoupled Actor-Critic.

    The advantage is one number a step, from GAE over environment steps; every token of the step's response shares it
    and is clipped by itself. The critic reads the last prompt token and cannot change the backbone.
    """

    Options = VLDACOptions

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
        )
        returns = advantages + values
        if self.options.normalize_advantages:
            advantages = normalize(advantages, sum_over_ranks)
        return Targets(advantages.flatten().unbind(), returns.flatten().unbind())

    def policy_loss(self, batch: TokenBatch) -> PolicyLoss:
        """PPO's clipped surrogate on each token by itself."""
        clip = self.train.clip
        loss, ratios = losses.clipped_policy_loss(
            batch.log_probs, batch.old_log_probs, batch.advantages, batch.mask, clip
        )
        outside = ((ratios.detach() - 1).abs() > clip).float()
        return PolicyLoss(loss, ratios, {"policy/clip_fraction": losses.step_mean(outside, batch.mask)})
