"""Statistics over runs: interquartile means, stratified bootstrap intervals, probability of improvement, profiles.

A run of a seed is one score; the scores of an algorithm are arrays of seeds, one an environment. The estimators are
those of Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (arXiv 2108.13264): the
bootstrap draws seeds with replacement within each environment, and intervals are percentiles of what it finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
#: From scores, one array an environment with seeds on its last axis, to one value an entry of the axes before it.
Statistic = Callable[[Sequence[Floats]], Floats]

RESAMPLES = 5000
_CONFIDENCE = 0.95
_TRIMMED = 0.25


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% bootstrap interval.

    Attributes:
        value: of the scores themselves.
        interval: None where an environment has a single seed, which says nothing of the spread.
        runs: scores behind it.
    """

    value: float
    interval: tuple[float, float] | None
    runs: int


def interquartile_mean(scores: Sequence[Floats]) -> Floats:
    """Mean of the middle half of all runs: the lowest and the highest quarter are left out, rounded down in number."""
    trimmed: Floats = stats.trim_mean(np.concatenate(list(scores), axis=-1), _TRIMMED, axis=-1)
    return trimmed


def mean(scores: Sequence[Floats]) -> Floats:
    """Mean over all runs."""
    averaged: Floats = np.concatenate(list(scores), axis=-1).mean(axis=-1)
    return averaged


def estimate(
    scores: Sequence[ArrayLike], statistic: Statistic = interquartile_mean, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """A statistic of an algorithm's scores.

    Args:
        scores: an array of seeds for each environment.
        statistic: of such arrays.
        resamples: of the bootstrap.
        seed: of its draws.

    Raises:
        ValueError: an environment has no score.
    """
    arrays = _arrays(scores)
    value = float(statistic(arrays))
    return Estimate(value, _interval(arrays, statistic, resamples, seed), sum(map(len, arrays)))


def probability_of_improvement(
    x: Sequence[ArrayLike], y: Sequence[ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Probability that a run of X scores higher than one of Y in an environment, ties at one half; its mean over those.

    Args:
        x: scores of one algorithm, an array of seeds for each environment.
        y: of another, in the same environments; the number of seeds may differ.
        resamples: of the bootstrap.
        seed: of its draws.

    Raises:
        ValueError: the environments differ in number, or one has no score.
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} and {len(y)} environments cannot be compared")

    def statistic(both: Sequence[Floats]) -> Floats:
        pairs = zip(both[: len(x)], both[len(x) :], strict=True)
        shares = [_share_higher(a, b) for a, b in pairs]
        averaged: Floats = np.mean(shares, axis=0)
        return averaged

    return estimate([*x, *y], statistic, resamples=resamples, seed=seed)


def _share_higher(a: Floats, b: Floats) -> Floats:
    """Share of the pairs of (..., N) and (..., M) in which the first is higher, ties at one half: (...)."""
    difference = a[..., :, None] - b[..., None, :]
    share: Floats = ((np.sign(difference) + 1) / 2).mean(axis=(-1, -2))
    return share


def performance_profile(scores: Sequence[ArrayLike], thresholds: ArrayLike) -> Floats:
    """Share of all runs whose score is above each threshold: (T,)."""
    runs = np.concatenate(_arrays(scores))
    above: Floats = (runs[None, :] > np.asarray(thresholds, dtype=np.float64)[:, None]).mean(axis=1)
    return above


def first_reached(values: Sequence[float | None], counts: Sequence[int], threshold: float, least: int) -> int | None:
    """The index of the first value of at least `threshold` that is over at least `least` episodes; None for none.

    Args:
        values: a success rate a point of a curve, None where there is none yet.
        counts: the episodes behind each.
        threshold: to be reached.
        least: episodes.
    """
    pairs = enumerate(zip(values, counts, strict=True))
    return next((i for i, (v, n) in pairs if v is not None and n >= least and v >= threshold), None)


def median_with_censored(times: Sequence[float | None]) -> float | None:
    """The median of times of which some are only known to be longer than any that was measured.

    Args:
        times: None for a run that ended before the event.

    Returns:
        None where the median itself is such a time; the lower of the two middle ones is never reported in its place.

    Raises:
        ValueError: there are none.
    """
    if not times:
        raise ValueError("no times: there is no median")
    middle = float(np.median([math.inf if time is None else time for time in times]))
    return None if math.isinf(middle) else middle


def held(steps: Sequence[float], values: Sequence[float | None], at: ArrayLike) -> Floats:
    """A curve at other points: at each the last value that had been measured, NaN before the first.

    Args:
        steps: (N,) rising.
        values: (N,), None where nothing was measured.
        at: (M,).

    Returns:
        (M,).
    """
    known = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    where, what = np.array([step for step, _ in known]), np.array([math.nan, *(value for _, value in known)])
    found: Floats = what[np.searchsorted(where, np.asarray(at), side="right")]
    return found


def _arrays(scores: Sequence[ArrayLike]) -> list[Floats]:
    arrays = [np.asarray(of_environment, dtype=np.float64) for of_environment in scores]
    if not arrays or any(array.ndim != 1 or not array.size for array in arrays):
        raise ValueError("each environment needs the scores of one seed at least")
    return arrays


def _interval(arrays: Sequence[Floats], statistic: Statistic, resamples: int, seed: int) -> tuple[float, float] | None:
    if min(map(len, arrays)) < 2:  # one seed cannot be resampled
        return None
    # Several samples are each drawn from with replacement by itself: with one an environment, that is stratified.
    found = stats.bootstrap(
        tuple(arrays),
        lambda *drawn, axis: statistic(drawn),  # the axis is always the last
        n_resamples=resamples,
        vectorized=True,
        axis=-1,
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def spread(scores: Mapping[str, float]) -> tuple[float, float, float]:
    """Lowest, median and highest of the scores of a grid of hyperparameters.

    Raises:
        ValueError: there are none.
    """
    if not scores:
        raise ValueError("no scores: there is no spread")
    values = list(scores.values())
    return min(values), float(np.median(values)), max(values)
