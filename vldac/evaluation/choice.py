"""Which episodes a person is shown: those that tell what was learned, and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Played(Protocol):
    """An episode that has ended."""

    @property
    def success(self) -> bool:
        """By the environment's own rule."""

    @property
    def length(self) -> int:
        """Environment steps."""

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of rewards."""


def choose(episodes: Sequence[Sequence[Played]]) -> list[int]:
    """Which seeds to show: the hardest success of the first policy, and one failure.

    The hardest success is one where another policy failed, and of those the longest. The failure is the one with the
    highest return, one where another policy succeeded before all others.

    Args:
        episodes: for each seed, the episode of each policy.

    Returns:
        One or two places in `episodes`, success first.
    """

    def hardness(index: int) -> tuple[bool, int]:
        first, *others = episodes[index]
        return any(not other.success for other in others), first.length

    def loss(index: int) -> tuple[bool, float]:
        first, *others = episodes[index]
        return any(other.success for other in others), first.episode_return

    won = [index for index, (first, *_) in enumerate(episodes) if first.success]
    lost = [index for index, (first, *_) in enumerate(episodes) if not first.success]
    return [max(found, key=key) for found, key in ((won, hardness), (lost, loss)) if found]
