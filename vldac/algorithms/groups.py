"""What algorithms share that compare whole episodes from the same start with each other, and train no critic."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vldac.advantages import episode_numbers, episode_returns
from vldac.algorithms.base import Algorithm, AlgorithmOptions, RolloutTensors, SumOverRanks, Targets

if TYPE_CHECKING:
    from torch import Tensor

    from vldac.config import TrainConfig


class GroupOptions(AlgorithmOptions):
    """Options of an algorithm that compares episodes.

    Attributes:
        group_size: K episodes that start alike.
    """

    group_size: Annotated[int, Field(ge=2)] = 4


class GroupAlgorithm(Algorithm):
    """K simulators play the same episodes; what an episode is worth is its return beside those of its group.

    The return is that of the whole episode, discounted by `train.gamma` from its first step on (the originals do not
    discount: gamma 1). All steps of an episode share its advantage. An episode that has not ended by the last step of
    the rollout has advantage 0 and is no part of its group's baseline, so `rollout.steps` should be at least as long as
    an episode: where the time is up, the short ones of a group have ended and the long ones have not.
    """

    Options = GroupOptions
    uses_critic = False
    whole_episodes = True

    def __init__(self, train: TrainConfig, options: Any) -> None:
        super().__init__(train, options)
        self.group_size = options.group_size

    @abstractmethod
    def compare(self, returns: Tensor) -> Tensor:
        """Advantages of the episodes of groups.

        Args:
            returns: (..., K) float, NaN for an episode that has not ended.

        Returns:
            (..., K), 0 for an episode that has not ended.
        """

    def targets(self, rollout: RolloutTensors, sum_over_ranks: SumOverRanks) -> Targets:
        """The episode's advantage for each of its steps."""
        numbers = episode_numbers(rollout.episodes)
        ended = rollout.terminated | rollout.truncated
        returns = episode_returns(rollout.rewards, ended, numbers, self.train.gamma)
        groups = returns.view(len(returns), -1, self.group_size)
        advantages = self.compare(groups).view_as(returns).gather(0, numbers)
        metrics = {
            "rollout/incomplete_episode_steps": returns.isnan().gather(0, numbers).float().mean(),
            "rollout/zero_advantage_steps": (advantages == 0).float().mean(),
        }
        return Targets(advantages.flatten().unbind(), metrics=metrics)
