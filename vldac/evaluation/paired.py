"""Two policies on the same episodes: how much their success differs, and whether that could be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from vldac.evaluation.statistics import wilson_interval


@dataclass(frozen=True)
class PairedSuccess:
    """Success of two policies that played the same episodes.

    Attributes:
        episodes: that both played.
        first, second: share of them in which each succeeded.
        only_first, only_second: episodes in which only this one did.
        low, high: 95% interval of `difference`, by Newcombe's square-and-add method ("Improved confidence intervals for
            the difference between binomial proportions based on paired data", 1998, method 10).
        p_value: of McNemar's exact test, two-sided: of what differs, as much or more to one side by chance.
    """

    episodes: int
    first: float
    second: float
    only_first: int
    only_second: int
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        """The second's success less the first's."""
        return self.second - self.first

    def __str__(self) -> str:
        return (
            f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}] over {self.episodes} episodes, "
            f"McNemar's p {self.p_value:.2g}"
        )


def paired_success(first: Sequence[bool], second: Sequence[bool]) -> PairedSuccess:
    """Compares two policies episode by episode.

    Args:
        first: (N,) whether the first succeeded in each episode.
        second: (N,) whether the second did, in the same order.

    Raises:
        ValueError: no episodes, or the two are not as long.
    """
    pairs = list(zip(first, second, strict=True))
    n = len(pairs)
    if not n:
        raise ValueError("no episodes: nothing can be compared")
    both, only_first, only_second = (pairs.count(kind) for kind in ((True, True), (True, False), (False, True)))
    a, b = both + only_first, both + only_second
    (low_a, high_a), (low_b, high_b) = wilson_interval(a, n), wilson_interval(b, n)
    p, q = a / n, b / n
    phi = _correlation(both, only_first, only_second, n - both - only_first - only_second)
    below, above = _joined(q - low_b, high_a - p, phi), _joined(high_b - q, p - low_a, phi)
    discordant = only_first + only_second
    p_value = float(binomtest(only_second, discordant).pvalue) if discordant else 1.0
    return PairedSuccess(n, p, q, only_first, only_second, q - p - below, q - p + above, p_value)


def _joined(x: float, y: float, phi: float) -> float:
    """The half width of a difference out of those of its parts, which are correlated by `phi`."""
    return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Phi of a table of two by two, with Newcombe's correction for continuity where it is positive."""
    root = math.sqrt((both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither))
    if not root:
        return 0.0
    excess = float(both * neither - only_first * only_second)
    if excess > 0:
        excess = max(0.0, excess - (both + only_first + only_second + neither) / 2)
    return excess / root
