"""What a pool of simulators answers, and what it remembers of each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.base import Exchange, Observation


@dataclass(frozen=True)
class VectorStep:
    """What N simulators answered.

    Attributes:
        observations: what each shows next, of its new episode where one ended; None for a simulator that has stopped.
        rewards: (N,) float64, 0 for a simulator that has stopped and for a lost episode.
        terminated: (N,) bool, the episode ended by the environment's rules.
        truncated: (N,) bool, the episode was cut off by its step limit or lost.
        final_observations: the last observation of an episode that ended in this step, else None.
        infos: of every step `invalid` (bool); of the last step of an episode also `success` (bool), `lost` (bool, its
            worker was replaced: leave it out of success rates), `episode_return` (float, of unscaled rewards),
            `episode_length` (int), `episode_seed` (int) and, where the environment has several, `task` (str). Empty for
            a simulator that has stopped.
    """

    observations: list[Observation | None]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    final_observations: list[Observation | None]
    infos: list[dict[str, Any]]

    def __getitem__(self, simulators: slice) -> VectorStep:
        """What some of the simulators answered."""
        return VectorStep(*(getattr(self, each.name)[simulators] for each in fields(self)))


@dataclass
class Episode:
    """The running episode of one simulator, as much as it takes to replay it, and its last exchanges."""

    index: int = -1
    seed: int | None = None
    actions: list[str | None] = field(default_factory=list)
    total: float = 0.0
    history: list[Exchange] = field(default_factory=list)

    def remember(self, exchange: Exchange, kept: int) -> None:
        """Notes what was asked and answered at a step, and forgets all but the last `kept` of such."""
        self.history = [*self.history, exchange][-kept:] if kept else []
