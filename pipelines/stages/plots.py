"""The learning curve of a run, as a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Curve = dict[str, NDArray[np.float64]]

#: Smoothing window as a share of the run.
WINDOW = 0.1
_BLUE, _ORANGE, _GREEN, _GREY = "#1f6fb4", "#d9730d", "#2e8b57", "#6b6b6b"


def read_curve(path: Path) -> Curve:
    """Reads a learning curve, one array a column; an empty field is NaN."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = rows[0].keys() if rows else ()
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in columns}


def smooth(values: NDArray[np.float64], weights: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Weighted mean over the `window` points that end at each point.

    Args:
        values: (N,), NaN where nothing was measured.
        weights: (N,), such as the number of episodes behind each value.
        window: points; at the start, as many as there are.

    Returns:
        (N,), NaN where the whole window holds no measurement.
    """
    known = np.isfinite(values) & (weights > 0)
    total = np.cumsum(np.where(known, values * weights, 0.0))
    weight = np.cumsum(np.where(known, weights, 0.0))
    total[window:] -= total[:-window].copy()
    weight[window:] -= weight[:-window].copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, total / weight, np.nan)


def learning_curve(curve: Curve, summary: Mapping[str, Any] | None, out: Path) -> None:
    """Draws success and return against environment steps, and how the answers changed meanwhile.

    Args:
        curve: columns of plots/learning_curve.csv.
        summary: metrics/summary.json, whose random and base scores are drawn as horizontal lines; None for none.
        out: PNG to write.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(3, 1, figsize=(8, 8.5), sharex=True, height_ratios=[2, 1.2, 1.2])
    steps = curve["environment_steps"]
    summary = summary or {}
    _series(axes[0], steps, curve, "episode/success", _BLUE)
    _reference(axes[0], summary, "success")
    axes[0].set(ylabel="success of the episodes\nbegun in an update", ylim=(-0.03, 1.03))
    axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=9, borderaxespad=0.2)
    figure.suptitle(_title(summary), x=0.02, ha="left", fontsize=12)
    _series(axes[1], steps, curve, "episode/return", _GREEN)
    _reference(axes[1], summary, "return")
    axes[1].set(ylabel="return of an episode")
    _series(axes[2], steps, curve, "rollout/invalid_actions", _ORANGE)
    axes[2].set(ylabel="share of answers that\nname no legal action", ylim=(0, None))
    axes[2].set_xlabel("environment steps")
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels(axes)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    # Without the library's version in the file, the same run draws the same bytes.
    figure.savefig(out, dpi=130, metadata={"Software": None})
    plt.close(figure)


def _title(summary: Mapping[str, Any]) -> str:
    env, seed = summary.get("env"), summary.get("seed")
    return "Learning curve" + (f" of {env}, seed {seed}" if env else "")


def _series(axis: Any, steps: NDArray[np.float64], curve: Curve, name: str, color: str) -> None:
    """One column: its raw points faint, its running mean on top."""
    if name not in curve:
        axis.text(0.5, 0.5, f"no {name} in this run", transform=axis.transAxes, ha="center", color=_GREY)
        return
    values = curve[name]
    counts = curve.get("episode/count") if name.startswith("episode/") else None
    weights = np.ones_like(values) if counts is None else np.nan_to_num(counts)
    window = max(3, round(WINDOW * len(values)))
    axis.plot(steps, values, "o", color=color, alpha=0.35, markersize=4, markeredgewidth=0, label="each update")
    axis.plot(
        steps, smooth(values, weights, window), color=color, linewidth=2, label=f"mean of the last {window} updates"
    )


def _reference(axis: Any, summary: Mapping[str, Any], key: str) -> None:
    for policy, style, label in (("random", ":", "random policy"), ("base", "--", "base model")):
        value = summary.get(policy, {}).get(key)
        if value is not None and math.isfinite(value):
            axis.axhline(value, color=_GREY, linestyle=style, linewidth=1.2, label=label)


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and one stage draws

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt
