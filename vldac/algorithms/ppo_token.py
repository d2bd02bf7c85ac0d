"""PPO with a value and an advantage for each token, as where language models learn from feedback (arXiv 2203.02155)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from vldac.advantages import token_gae
from vldac.algorithms.base import RolloutTensors, SumOverRanks, Targets, normalize
from vldac.algorithms.vldac import VLDAC, VLDACOptions

if TYPE_CHECKING:
    from torch import Tensor


class TokenPPOOptions(VLDACOptions):
    """Options of token-level PPO.

    Attributes:
        token_gamma: discount from a token to the next one of its response. Between responses it is `train.gamma`.
        token_lambda: GAE's lambda from a token to the next one of its response. Between responses it is
            `train.gae_lambda`.
    """

    token_gamma: Annotated[float, Field(ge=0, le=1)] = 1.0
    token_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95


class TokenPPO(VLDAC):
    """PPO whose steps are tokens.

    The critic says a value before each token of a response, from the hidden state that the token was drawn from: the
    first is that of the last prompt token, as in VL-DAC. The reward of an environment step is that of its last token.
    """

    Options = TokenPPOOptions
    critic_reads_tokens = True

    def critic_states(self, states: Tensor) -> Tensor:
        """The states that each token was drawn from, (B, R, H)."""
        return states[:, :-1]

    def targets(self, rollout: RolloutTensors, sum_over_ranks: SumOverRanks) -> Targets:
        """GAE over the tokens of each episode."""
        options = self.options
        advantages = token_gae(
            rollout.rewards,
            rollout.values,
            rollout.next_values,
            rollout.terminated,
            rollout.truncated,
            gamma=self.train.gamma,
            gae_lambda=self.train.gae_lambda,
            token_gamma=options.token_gamma,
            token_lambda=options.token_lambda,
            lost=rollout.lost,
        )
        returns = [advantage + value for advantage, value in zip(advantages, rollout.values, strict=True)]
        if options.normalize_advantages:
            lengths, lost = [len(row) for row in advantages], rollout.lost.flatten().tolist()
            normalized = normalize(torch.cat(advantages), sum_over_ranks).split(lengths)
            advantages = [row.new_zeros(len(row)) if gone else row for row, gone in zip(normalized, lost, strict=True)]
        return Targets(advantages, returns)
