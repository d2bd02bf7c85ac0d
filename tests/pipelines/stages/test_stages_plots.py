"""The picture of a run, and the smoothing in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.stages import plots
from pipelines.stages.train import summary, write_curve


@pytest.mark.parametrize("window", [1, 3, 50])
def test_smoothing_is_the_weighted_mean_of_the_window(window: int) -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.random(40), rng.integers(0, 4, 40).astype(float)
    values[rng.random(40) < 0.2] = np.nan
    weights[5:10] = 0

    smoothed = plots.smooth(values, weights, window)

    for i in range(40):
        inside = range(max(0, i - window + 1), i + 1)
        known = [j for j in inside if weights[j] > 0 and not np.isnan(values[j])]
        if known:
            expected = sum(values[j] * weights[j] for j in known) / sum(weights[j] for j in known)
            assert smoothed[i] == pytest.approx(expected)
        else:
            assert np.isnan(smoothed[i])


def test_a_curve_is_drawn_from_what_a_run_wrote(tmp_path: Path) -> None:
    rows = [{"environment_steps": 10 * i, "episode/success": 1.0, "time_s": 1.0} for i in range(1, 11)]
    # An episode counts where it began: two in the first update, none in the second, one in each later one.
    begun = [(0, True), (9, False), *((10 * i, True) for i in range(2, 10))]
    episodes = [{"began": at, "success": won, "return": 2.0 * won, "length": 4} for at, won in begun]
    write_curve(tmp_path / "curve.csv", rows, episodes)
    curve = plots.read_curve(tmp_path / "curve.csv")
    assert "time_s" not in curve
    assert curve["environment_steps"].tolist() == [10.0 * i for i in range(1, 11)]
    assert curve["episode/count"].tolist() == [2, 0, *[1] * 8]
    assert curve["episode/success"][0] == 0.5
    assert curve["episode/return"][2] == 2.0
    assert np.isnan(curve["episode/success"][1])

    scores = {"random": {"success": 0.5, "return": 0.1}, "base": {"success": 0.4}}
    for scored in (None, scores):
        plots.learning_curve(curve, scored, tmp_path / "curve.png")
        with Image.open(tmp_path / "curve.png") as picture:
            assert picture.width > 800


def test_where_a_run_ended_is_the_mean_of_its_last_tenth() -> None:
    rows = [{"environment_steps": i, "episode/success": float(i)} for i in range(1, 31)]
    assert summary(rows) == {"environment_steps": 30, "updates": 30, "episode_success": 29.0}
