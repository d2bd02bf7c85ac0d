"""Objectives: each one small class that names how advantages are made and which policy loss they enter.

The learner knows only this interface, so a step-level or a critic-free objective is one more class here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vldac import advantages, losses


@dataclass(frozen=True)
class StepTensors:
    """What an objective sees of a rollout: T steps of N simulators.

    Attributes:
        rewards: (T, N) float32.
        values: (T, N) float32, V(s_t) at the time of the rollout.
        next_values: (T, N) float32, V of the observation after the step (`advantages.gae`).
        terminated: (T, N) bool.
        truncated: (T, N) bool.
    """

    rewards: Tensor
    values: Tensor
    next_values: Tensor
    terminated: Tensor
    truncated: Tensor


class Objective(Protocol):
    """What distinguishes one policy-gradient method from another."""

    @property
    def uses_critic(self) -> bool:
        """Whether a value head is trained."""
        ...

    def advantages(self, steps: StepTensors) -> Tensor:
        """(T, N) advantages, not yet normalised."""
        ...

    def policy_loss(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss (), and the ratios it used, (B, R)."""
        ...


@dataclass(frozen=True)
class VLDAC:
    """PPO on tokens with one advantage an environment step (arXiv 2508.04280)."""

    gamma: float
    gae_lambda: float
    clip: float
    uses_critic: bool = True

    def advantages(self, steps: StepTensors) -> Tensor:
        """Step-level GAE; returns for the critic are these plus the values."""
        return advantages.gae(
            steps.rewards,
            steps.values,
            steps.next_values,
            steps.terminated,
            steps.truncated,
            self.gamma,
            self.gae_lambda,
        )

    def policy_loss(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The clipped surrogate of each token by itself."""
        return losses.clipped_policy_loss(log_probs, old_log_probs, advantages, mask, self.clip)
