from __future__ import annotations

import pytest

from vldac.utils.schedules import trapezoid


def test_a_rate_rises_stays_and_falls() -> None:
    rates = [trapezoid(update, 300, rise=30, slope=3.0) for update in range(300)]
    assert rates[0] == pytest.approx(1 / 30)
    assert rates[29:200] == [1.0] * 171
    assert rates[250] == pytest.approx(3 * 50 / 300 + 0.02)
    assert rates[-1] == pytest.approx(3 / 300 + 0.02)
    assert rates[:30] == sorted(rates[:30])
    assert rates[200:] == sorted(rates[200:], reverse=True)
