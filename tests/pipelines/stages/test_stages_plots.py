"""The picture of a run, and the smoothing in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    rows = [{"environment_steps": 10 * i, "episode/complete_until": 10 * i, "time_s": 1.0} for i in range(1, 11)]
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


def test_a_curve_does_not_end_with_the_quick_successes_of_the_last_updates(tmp_path: Path) -> None:
    """Half of the episodes succeed within 3 steps, the others fail after 40: at any end, only successes have ended."""
    began = range(200)
    length = {at: 3 if at % 2 == 0 else 40 for at in began}
    rows = [{"environment_steps": 10 * i} for i in range(1, 21)]
    running = [at for at in began if at + length[at] > 200]
    rows[-1]["episode/complete_until"] = min(running)  # 161: in the middle of an update
    episodes = [
        {"began": at, "success": at % 2 == 0, "return": 0.0, "length": length[at]} for at in began if at not in running
    ]
    assert all(episode["success"] for episode in episodes if episode["began"] >= 161)

    write_curve(tmp_path / "curve.csv", rows, episodes)

    curve = plots.read_curve(tmp_path / "curve.csv")
    assert curve["episode/count"].tolist() == [10] * 16 + [0] * 4
    assert curve["episode/success"][:16].tolist() == [0.5] * 16
    for name in ("success", "return", "length"):
        assert np.isnan(curve[f"episode/{name}"][16:]).all()


def test_where_a_run_ended_is_the_mean_of_its_last_tenth() -> None:
    rows: list[dict[str, Any]] = [{"environment_steps": i, "rollout/invalid_actions": float(i)} for i in range(1, 31)]
    assert summary(rows) == {
        "environment_steps": 30,
        "updates": 30,
        "episode_count": 0,
        "rollout_invalid_actions": 29.0,
    }
    rows[27] |= {"episode/count": 1, "episode/success": 1.0}
    rows[29] |= {"episode/count": 9, "episode/success": 0.0}
    rows[29] |= {"episode/success_last_100": 0.25, "episode/success_last_100_count": 40}
    ended = summary(rows)
    assert ended["episode_count"] == 10
    assert ended["episode_success"] == pytest.approx(0.1)  # each episode counts, not each update
    assert (ended["episode_success_last_100"], ended["episode_success_last_100_count"]) == (0.25, 40)
