"""Paired comparison of success: against a bootstrap, against the binomial, and where nothing differs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vldac.evaluation.paired import PairedSuccess, paired_success


def compared(both: int, only_first: int, only_second: int, neither: int) -> PairedSuccess:
    kinds = [(True, True)] * both + [(True, False)] * only_first + [(False, True)] * only_second
    first, second = zip(*kinds, *[(False, False)] * neither, strict=True)
    return paired_success(first, second)


def test_the_interval_agrees_with_a_paired_bootstrap() -> None:
    found = compared(110, 30, 55, 45)
    outcomes = np.repeat([0, -1, 1, 0], [110, 30, 55, 45])
    bootstrap = stats.bootstrap((outcomes,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert found.difference == pytest.approx(25 / 240)
    assert (found.low, found.high) == pytest.approx((bootstrap.low, bootstrap.high), abs=0.01)
    independent = found.first * (1 - found.first) + found.second * (1 - found.second)
    assert found.high - found.low < 2 * 1.96 * (independent / 240) ** 0.5  # pairs say more than as many that are none


def test_the_p_value_is_that_of_the_episodes_that_differ() -> None:
    found = compared(40, 1, 8, 51)
    assert found.p_value == pytest.approx(2 * sum(stats.binom.pmf(k, 9, 0.5) for k in (0, 1)))
    assert found.low > 0
    turned = compared(40, 8, 1, 51)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert turned.p_value == pytest.approx(found.p_value)


def test_policies_that_never_differ_leave_room_for_those_that_would() -> None:
    found = compared(20, 0, 0, 0)
    assert found.difference == 0.0
    assert found.p_value == 1.0
    assert found.low < 0 < found.high
    assert str(found).startswith("+0.000 [-0.")
    with pytest.raises(ValueError, match="no episodes"):
        paired_success([], [])
