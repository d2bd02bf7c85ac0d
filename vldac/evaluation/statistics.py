"""Error bars: of a mean, of a share, of the difference between two models on the same questions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054
#: Fewer records cannot tell a difference from luck: even if all of n change the same way, that has probability 2 / 2^n.
LEAST_RECORDS = 6
#: Where a mean is over parts, fewer records of a part say too little of its error; BALROG has five of NetHack.
LEAST_OF_PART = 5


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error, the population's deviation over the root of n, as BALROG reports it.

    The error of a single value is 0 by this formula, and unknown in truth: whoever shows it must say so.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values: nothing can be said of their mean")
    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / n
    return mean, math.sqrt(variance / n)


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """The 95% confidence interval of a proportion (Wilson 1927); unlike p +- 1.96 se it holds near 0 and 1."""
    p, z2 = successes / count, Z95**2
    centre = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(p * (1 - p) / count + z2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference_interval(before: tuple[int, int], after: tuple[int, int]) -> tuple[float, float]:
    """The 95% confidence interval of the difference of two independent proportions, after - before.

    Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10: it is made of
    the Wilson intervals of both.

    Args:
        before: successes and count.
        after: successes and count.
    """
    (low_b, high_b), (low_a, high_a) = wilson_interval(*before), wilson_interval(*after)
    p_b, p_a = before[0] / before[1], after[0] / after[1]
    return p_a - p_b - math.hypot(p_a - low_a, high_b - p_b), p_a - p_b + math.hypot(high_a - p_a, p_b - low_b)


def paired_difference(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Mean of after - before and its standard error, question by question.

    Two models that fail on the same hard questions differ by less than two independent errors would say.

    Raises:
        ValueError: no values, or the two are not as long.
    """
    return mean_and_error([b - a for a, b in zip(before, after, strict=True)])
