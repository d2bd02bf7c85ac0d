"""LOOP: leave-one-out PPO on whole episodes, without a critic (arXiv 2502.01600)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from vldac.advantages import leave_one_out
from vldac.algorithms.base import PolicyLoss, TokenBatch, clipped_step_loss, clipped_token_loss
from vldac.algorithms.groups import GroupAlgorithm, GroupOptions

if TYPE_CHECKING:
    from torch import Tensor

    from vldac.config import TrainConfig


class LOOPOptions(GroupOptions):
    """Options of LOOP.

    Attributes:
        ratio: what is clipped: the ratio of each token, of each step's response, or of all responses of an episode.
    """

    ratio: Literal["token", "step", "episode"] = "token"


class LOOP(GroupAlgorithm):
    """Leave-one-out PPO.

    The advantage of an episode is its return less the mean return of the others of its group. The loss is a mean over
    steps, so that a long episode weighs more than a short one at every level of the ratio.
    """

    Options = LOOPOptions

    def __init__(self, train: TrainConfig, options: Any) -> None:
        super().__init__(train, options)
        self.ratio_level = options.ratio

    def compare(self, returns: Tensor) -> Tensor:
        """Leave one out."""
        return leave_one_out(returns)

    def policy_loss(self, batch: TokenBatch) -> PolicyLoss:
        """PPO's clipped surrogate at the level of `ratio`.

        With `episode`, the gradient is exactly that of the sum over episodes of their clipped surrogates, divided by
        the steps of the batch: each step adds the part that goes through its own tokens.
        """
        if self.options.ratio == "token":
            return clipped_token_loss(batch, self.train.clip)
        log_ratios = torch.where(batch.mask, batch.log_probs - batch.old_log_probs, 0.0).sum(-1)
        if self.options.ratio == "episode":
            assert batch.episode_log_ratios is not None
            log_ratios = batch.episode_log_ratios + log_ratios - log_ratios.detach()
        return clipped_step_loss(log_ratios.exp(), batch.advantages, self.train.clip)
