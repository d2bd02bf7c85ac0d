"""An algorithm of somebody else: pairs of simulators from one start, no critic, one ratio a step, the action alone."""

from __future__ import annotations

from vldac.algorithms.base import Algorithm, AlgorithmOptions, PolicyLoss, RolloutTensors, Targets, TokenBatch
from vldac.losses import step_mean


class ToyOptions(AlgorithmOptions):
    action_weight: float = 1.0


class Pairs(Algorithm):
    Options = ToyOptions
    uses_critic = False
    uses_action_mask = True
    group_size = 2

    def targets(self, rollout: RolloutTensors, sum_over_ranks: object) -> Targets:
        assert not rollout.values
        assert not rollout.next_values.any()
        pairs = rollout.rewards.view(len(rollout.rewards), -1, 2)
        return Targets((pairs - pairs.flip(-1)).flatten().unbind())

    def policy_loss(self, batch: TokenBatch) -> PolicyLoss:
        assert batch.action_mask is not None
        assert not (batch.action_mask & ~batch.mask).any()
        weights = 1 + self.options.action_weight * batch.action_mask
        ratios = ((batch.log_probs - batch.old_log_probs) * batch.mask).sum(-1, keepdim=True).exp()
        loss = -(ratios.squeeze(-1) * batch.advantages).mean() - 0.01 * step_mean(batch.log_probs * weights, batch.mask)
        return PolicyLoss(loss, ratios, {"toy/action_tokens": batch.action_mask.float().sum(-1).mean()})
