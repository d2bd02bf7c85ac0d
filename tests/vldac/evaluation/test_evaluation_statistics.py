from __future__ import annotations

import statistics

import numpy as np
import pytest
from scipy.stats import binomtest

from vldac.evaluation.statistics import difference_interval, mean_and_error, paired_difference, wilson_interval


@pytest.mark.parametrize("count", [1, 2, 10, 137, 10_000])
def test_the_wilson_interval_is_that_of_scipy(count: int) -> None:
    for successes in {0, 1, count // 3, count // 2, count - 1, count}:
        other = binomtest(successes, count).proportion_ci(confidence_level=0.95, method="wilson")
        assert wilson_interval(successes, count) == pytest.approx((other.low, other.high), abs=1e-12)


def test_the_error_of_a_mean_is_the_populations_deviation_over_the_root_of_n() -> None:
    values = np.random.default_rng(0).random(31).tolist()
    mean, error = mean_and_error(values)
    assert mean == pytest.approx(statistics.mean(values))
    assert error == pytest.approx(statistics.pstdev(values) / 31**0.5)
    assert mean_and_error([0.3]) == (0.3, 0.0)
    with pytest.raises(ValueError, match="no values"):
        mean_and_error([])


def test_the_interval_of_a_difference_is_the_published_one() -> None:
    # Newcombe 1998, table II, example (a): 56 of 70 against 48 of 80, method 10.
    assert difference_interval((48, 80), (56, 70)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    # Example (d): 0 of 10 against 10 of 10 the other way around.
    low, high = difference_interval((10, 10), (0, 10))
    assert low == pytest.approx(-1)
    assert high < -0.5


def test_a_paired_difference_knows_that_both_failed_on_the_same_questions() -> None:
    before, after = [0, 0, 1, 1, 0], [0, 1, 1, 1, 0]
    assert paired_difference(before, after) == pytest.approx((0.2, statistics.pstdev([0, 1, 0, 0, 0]) / 5**0.5))
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1, 2], [1])
