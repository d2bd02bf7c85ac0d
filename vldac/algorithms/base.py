"""What distinguishes one policy-gradient method from another, and nothing else.

The training loop collects, scores and steps; an `Algorithm` says which simulators share their starts, what an
environment step is worth, which tokens of a response are weighed how, whether a critic is trained and on which hidden
states. The learner knows no algorithm by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from vldac import losses

if TYPE_CHECKING:
    from torch import Tensor

    from vldac.config import TrainConfig

#: Sums a tensor over all ranks, into a new tensor.
SumOverRanks = Callable[["Tensor"], "Tensor"]
#: Of what an algorithm takes the ratio of new to old probability: a token, a step's response, all of an episode's.
Level = Literal["token", "step", "episode"]


class AlgorithmOptions(BaseModel):
    """Options of one algorithm, from `train.algorithm_options`. Subclasses add typed fields with defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


@dataclass(frozen=True)
class RolloutTensors:
    """A rollout as numbers: T steps of N simulators of one rank, on the CPU.

    Attributes:
        rewards: (T, N) float32.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        lost: (T, N) bool, where an episode was lost with its simulator; it is truncated there too.
        episodes: (T, N) int64, which episode of its simulator a step belongs to, counted over the run. Simulators of a
            group (`Algorithm.group_size`) start episodes of equal number from the same seed.
        response_lengths: (T, N) int64, tokens of each response.
        values: T*N tensors in the order of the steps (t, n), what the critic said at rollout time: () float32 each, or
            (R,) of a critic that reads several positions. Empty without a critic.
        next_values: (T, N) float32, the critic's value of the observation after the step: the final observation where
            the episode was truncated there. Zeros without a critic.
    """

    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    lost: Tensor
    episodes: Tensor
    response_lengths: Tensor
    values: Sequence[Tensor]
    next_values: Tensor


@dataclass(frozen=True)
class Targets:
    """What an update aims at, one entry an environment step, in the order of the steps.

    Attributes:
        advantages: T*N tensors, () for one advantage a step or (R,) for one a token.
        returns: what the critic should have said, shaped like `RolloutTensors.values`; empty without a critic.
        metrics: of the whole update, by name, each a () tensor; averaged over ranks.
    """

    advantages: Sequence[Tensor]
    returns: Sequence[Tensor] = ()
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenBatch:
    """The tokens of B environment steps, padded on the right to R.

    Attributes:
        log_probs: (B, R) float32, under the weights being trained; with gradient.
        old_log_probs: (B, R) float32, under the weights that sampled.
        advantages: (B,) or (B, R) float32, as `Targets.advantages` gave them, times the importance weights of what
            another engine sampled (`vldac.importance`), which are (B, R) where `Algorithm.ratio_level` is "token".
        mask: (B, R) bool, true on response tokens (the end-of-turn token included).
        action_mask: (B, R) bool, true on the tokens of a response that name the action, from the key "action" to the
            end; all false where a response could not be parsed. Tokens in `mask` and not here are the thoughts. Only
            where `Algorithm.uses_action_mask` is set, otherwise None.
        episode_log_ratios: (B,) float32, the logarithm of the ratio of new to old probability of all responses of the
            step's episode in this rollout; without gradient. Only where `Algorithm.ratio_level` is
            "episode", otherwise None.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    mask: Tensor
    action_mask: Tensor | None = None
    episode_log_ratios: Tensor | None = None


@dataclass(frozen=True)
class PolicyLoss:
    """A policy loss and what it was made of.

    Attributes:
        loss: (), to be minimized.
        ratios: of new to old probability at the algorithm's level (token, step or episode), 1 where masked out.
        metrics: by name, each a () tensor, averaged over the batches of an update.
    """

    loss: Tensor
    ratios: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Algorithm(ABC):
    """One policy-gradient method.

    Args:
        train: the training section of the configuration, of which an algorithm reads what concerns it.
        options: its own options, from `train.algorithm_options`.
    """

    Options: ClassVar[type[AlgorithmOptions]] = AlgorithmOptions

    #: Whether a critic is trained. Without one no value head is built, saved or exported.
    uses_critic: bool = True
    #: Whether the critic says a value for each response token, so that `critic_states` returns (B, R, H). Its input is
    #: then standardized by statistics of tokens, which are far from those of prompts.
    critic_reads_tokens: bool = False
    #: Whether `policy_loss` tells the tokens of thoughts from those of the action.
    uses_action_mask: bool = False
    #: K neighboring simulators that start their episodes from the same seeds. It divides `env.num_envs`.
    group_size: int = 1
    #: Whether every rollout begins with new episodes, of one number in each group: what has ended by its last step was
    #: then played from start to end by one policy. Running episodes are given up.
    whole_episodes: bool = False
    #: At which level `policy_loss` takes the ratio of new to old probability. With "episode", it reads
    #: `TokenBatch.episode_log_ratios`; batches then hold all steps of a simulator, and cost one more forward pass.
    ratio_level: Level = "token"
    #: Whether the gradient of the value loss stops at the critic's input. Otherwise it reaches the policy's weights.
    stop_gradient: bool = True

    def __init__(self, train: TrainConfig, options: Any) -> None:
        self.train, self.options = train, options

    def critic_states(self, states: Tensor) -> Tensor:
        """The hidden states that the critic reads; by default the one at the last prompt token.

        Args:
            states: (B, 1 + R, H), at the last prompt token and at each response token.

        Returns:
            (B, H), or (B, R, H) for a value at each response token.
        """
        return states[:, 0]

    @abstractmethod
    def targets(self, rollout: RolloutTensors, sum_over_ranks: SumOverRanks) -> Targets:
        """Advantages, normalized if the algorithm normalizes them, and the critic's returns.

        Args:
            rollout: of this rank.
            sum_over_ranks: for statistics over the whole rollout. Every rank must call it equally often.
        """

    @abstractmethod
    def policy_loss(self, batch: TokenBatch) -> PolicyLoss:
        """The loss of B steps: a mean over steps, so that micro-batches, each with its share of the steps, add up."""

    def value_loss(self, values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """The critic's loss: by default half the squared error.

        Args:
            values: (B,), or (B, R) of a critic that reads response tokens; with gradient.
            returns: of the same shape.
            mask: (B, R) bool, true on response tokens.

        Returns:
            (), a mean over steps.
        """
        if values.ndim == 1:
            return losses.value_loss(values, returns)
        return losses.step_mean(0.5 * (values - returns).square(), mask)


def normalize(advantages: Tensor, sum_over_ranks: SumOverRanks) -> Tensor:
    """Mean 0 and (population) standard deviation 1 over the entries of all ranks."""
    count = sum_over_ranks(advantages.new_tensor(float(advantages.numel())))
    mean = sum_over_ranks(advantages.sum()) / count
    variance = sum_over_ranks((advantages - mean).square().sum()) / count
    normalized: Tensor = (advantages - mean) / (variance.sqrt() + 1e-8)
    return normalized


def clipped_token_loss(batch: TokenBatch, clip: float) -> PolicyLoss:
    """PPO's clipped surrogate on each token by itself: a mean over steps of a mean over tokens."""
    loss, ratios = losses.clipped_policy_loss(batch.log_probs, batch.old_log_probs, batch.advantages, batch.mask, clip)
    clipped = losses.step_mean(losses.outside(ratios, clip), batch.mask)
    return PolicyLoss(loss, ratios, {"policy/clip_fraction": clipped})


def clipped_step_loss(ratios: Tensor, advantages: Tensor, clip: float) -> PolicyLoss:
    """PPO's clipped surrogate with one ratio a step, (B,), (B,) -> a mean over steps."""
    loss = -losses.clipped_surrogate(ratios, advantages, clip).mean()
    return PolicyLoss(loss, ratios, {"policy/clip_fraction": losses.outside(ratios, clip).mean()})
