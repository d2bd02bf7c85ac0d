"""Learning rates over the updates of a training."""

from __future__ import annotations


def trapezoid(update: int, updates: int, *, rise: int, slope: float) -> float:
    """A share of the highest learning rate: rises linearly, stays, and falls linearly to 2% at the end.

    Args:
        update: from 0.
        updates: in all.
        rise: updates until the highest rate.
        slope: of the fall, in shares a whole training: 3 falls over the last third.
    """
    return min(1.0, (update + 1) / rise) * min(1.0, slope * (1 - update / updates) + 0.02)
