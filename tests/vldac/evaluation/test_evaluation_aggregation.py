"""The statistics of a study, against counting everything out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vldac.evaluation import aggregation


def trimmed(runs: list[float]) -> float:
    """The middle half, one by one."""
    cut = len(runs) // 4
    kept = sorted(runs)[cut : len(runs) - cut]
    return sum(kept) / len(kept)


def every_resample(scores: list[list[float]]) -> list[list[list[float]]]:
    """All equally likely draws of seeds within environments."""
    drawn = [[list(draw) for draw in itertools.product(of, repeat=len(of))] for of in scores]
    return [list(draw) for draw in itertools.product(*drawn)]


SCORES = [[0.1, 0.55, 0.9], [0.3, 0.35, 0.8]]


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end() -> None:
    runs = [0.0, 0.2, 0.4, 0.6, 1.0, 5.0, 0.5, 0.3]
    assert float(aggregation.interquartile_mean([np.array(runs[:3]), np.array(runs[3:])])) == pytest.approx(
        trimmed(runs)
    )


def test_intervals_are_those_of_all_stratified_resamples() -> None:
    exact = sorted(trimmed([run for of in draw for run in of]) for draw in every_resample(SCORES))
    low, high = np.quantile(exact, [0.025, 0.975])
    found = aggregation.estimate(SCORES, resamples=20_000)
    assert found.value == pytest.approx(trimmed(SCORES[0] + SCORES[1]))
    assert found.runs == 6
    assert found.interval == pytest.approx((low, high), abs=0.02)


def test_resamples_stay_within_their_environment() -> None:
    found = aggregation.estimate([[0.0, 0.0], [1.0, 1.0]], aggregation.mean)
    assert found.interval == (0.5, 0.5)  # drawn from all four, the mean would be anything


def test_one_seed_has_no_interval() -> None:
    assert aggregation.estimate([[0.4]]) == aggregation.Estimate(0.4, None, 1)


def test_the_probability_of_improvement_counts_pairs_and_halves_ties() -> None:
    x, y = [[0.2, 0.5, 0.9], [1.0, 1.0]], [[0.5, 0.1], [1.0, 0.4, 0.7]]

    def share(a: list[float], b: list[float]) -> float:
        return sum((p > q) + 0.5 * (p == q) for p in a for q in b) / (len(a) * len(b))

    expected = (share(x[0], y[0]) + share(x[1], y[1])) / 2
    found = aggregation.probability_of_improvement(x, y, resamples=20_000)
    assert found.value == pytest.approx(expected)
    exact = [
        (share(draw[0], draw[2]) + share(draw[1], draw[3])) / 2 for draw in every_resample([x[0], x[1], y[0], y[1]])
    ]
    assert found.interval == pytest.approx(np.quantile(exact, [0.025, 0.975]), abs=0.02)
    assert aggregation.probability_of_improvement(y, x).value == pytest.approx(1 - expected)


def test_environments_that_differ_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="2 and 1 environments"):
        aggregation.probability_of_improvement([[1.0], [1.0]], [[1.0]])
    with pytest.raises(ValueError, match="one seed at least"):
        aggregation.estimate([[1.0], []])


def test_a_profile_is_the_share_of_runs_above() -> None:
    profile = aggregation.performance_profile(SCORES, [0.0, 0.35, 0.9])
    assert profile.tolist() == pytest.approx([1.0, 0.5, 0.0])


def test_a_threshold_is_reached_by_enough_episodes_only() -> None:
    values, counts = [None, 1.0, 0.8, 0.95, 0.5], [0, 10, 60, 70, 100]
    assert aggregation.first_reached(values, counts, 0.9, 50) == 3
    assert aggregation.first_reached(values, counts, 0.99, 50) is None


def test_censored_times_are_longer_than_all_others() -> None:
    assert aggregation.median_with_censored([10.0, None, 30.0]) == 30.0
    assert aggregation.median_with_censored([10.0, None, None]) is None
    assert aggregation.median_with_censored([10.0, 20.0, None, None]) is None
    with pytest.raises(ValueError, match="no times"):
        aggregation.median_with_censored([])


def test_a_curve_holds_its_last_value() -> None:
    found = aggregation.held([10, 20, 30], [None, 0.5, 0.7], [5, 10, 20, 29, 31])
    assert np.array_equal(found, [np.nan, np.nan, 0.5, 0.5, 0.7], equal_nan=True)


def test_the_spread_of_a_grid() -> None:
    assert aggregation.spread({"a": 0.2, "b": 0.9, "c": 0.4}) == (0.2, 0.4, 0.9)
