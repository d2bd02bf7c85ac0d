"""The figures of a study, each as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vldac.evaluation import aggregation
from vldac.evaluation.study import transfer
from vldac.evaluation.study.results import (
    Groups,
    Results,
    Scores,
    ablations,
    arrays,
    grid,
    of_ablations,
    of_algorithms,
    scores,
    shared,
)

#: Colors that people with any color vision can tell apart (Okabe and Ito).
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_POINTS = 60  # of a curve
_RESAMPLES = 1000  # of the band around each of them


def draw(directory: Path, results: Results) -> dict[str, str]:
    """Draws what the results have; returns the names of the PNGs, by what they show."""
    drawers: dict[str, Callable[[Any, Results], bool]] = {
        "success": _success,
        "profile": _profile,
        "curves": _curves,
        "improvement": _improvement,
        "ablations": _ablations,
        "ablation_curves": _ablation_curves,
        "grid": _grid,
        "transfer": transfer.heat_map,
    }
    drawn = {}
    for name, drawer in drawers.items():
        with _style() as pyplot:
            if drawer(pyplot, results):
                # Without dates and versions in the files, the same results draw the same bytes.
                pyplot.savefig(directory / f"{name}.png", dpi=140, metadata={"Software": None})
                pyplot.savefig(directory / f"{name}.svg", metadata={"Date": None})
                drawn[name] = f"{name}.png"
            pyplot.close("all")
    return drawn


@contextmanager
def _style() -> Iterator[Any]:
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and only reports draw
    from cycler import cycler  # noqa: PLC0415  # comes with it

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    style: Any = {  # matplotlib types it by the names of all its settings
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.prop_cycle": cycler(linestyle=["-", "--"]) * cycler(color=_COLORS),  # more curves than colors are dashed
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "svg.hashsalt": "vldac",
    }
    with mpl.rc_context(style):
        yield pyplot


def _curves(pyplot: Any, results: Results) -> bool:
    return _learning(pyplot, results.environments, of_algorithms(results))


def _ablation_curves(pyplot: Any, results: Results) -> bool:
    there = {line["environment"] for line in results.select("ablation")}
    environments = [name for name in results.environments if name in there]
    return bool(environments) and _learning(pyplot, environments, of_ablations(results))


def _learning(pyplot: Any, environments: Sequence[str], groups: Groups) -> bool:
    """Success while learning against environment steps: interquartile mean over seeds and its band."""
    _, axes = pyplot.subplots(1, len(environments), figsize=(5.2 * len(environments), 3.6), squeeze=False)
    for axis, environment in zip(axes[0], environments, strict=True):
        for name, group in groups.items():
            lines = [line for line in group if line["environment"] == environment]
            if not lines:
                continue
            at = np.linspace(0, max(line["curve"]["environment_steps"][-1] for line in lines), _POINTS)
            value, low, high = band(lines, at)
            axis.plot(at, value, linewidth=2, label=f"{name} (n {len(lines)})")
            axis.fill_between(at, low, high, alpha=0.18, linewidth=0)
        axis.set(title=environment, xlabel="environment steps", xlim=(0, None), ylim=(-0.02, 1.02))
        if axis.lines:
            axis.legend(loc="lower right", fontsize=8 if len(groups) <= len(_COLORS) else 6)
    axes[0][0].set_ylabel("success of the last 100 episodes\n(IQM, 95% interval)")
    return True


def band(
    lines: Sequence[Mapping[str, Any]], at: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Interquartile mean over the runs of an environment at some environment steps, and its 95% interval.

    Args:
        lines: of the runs.
        at: (M,) environment steps.

    Returns:
        Three arrays (M,): NaN where a run has no complete cohort yet; the interval too where there is one run.
    """
    curves = [aggregation.held(line["curve"]["environment_steps"], line["curve"]["success"], at) for line in lines]
    value, low, high = (np.full(len(at), np.nan) for _ in range(3))
    for i, runs in enumerate(np.transpose(curves)):
        if not np.isnan(runs).any():
            found = aggregation.estimate([runs], resamples=_RESAMPLES)
            value[i] = found.value
            low[i], high[i] = found.interval or (np.nan, np.nan)
    return value, low, high


def _success(pyplot: Any, results: Results) -> bool:
    rows = {algorithm: scores(results.select("main", algorithm)) for algorithm in results.algorithms}
    return _panels(pyplot, results.environments, rows)


def _panels(pyplot: Any, environments: Sequence[str], rows: Mapping[str, Scores]) -> bool:
    """A panel an environment: the interquartile mean of each row, its interval, and each run."""
    size = (3.6 * len(environments) + 2, 0.45 * len(rows) + 1.3)
    _, axes = pyplot.subplots(1, len(environments), figsize=size, squeeze=False, sharey=True)
    for axis, environment in zip(axes[0], environments, strict=True):
        for row, found in enumerate(rows.values()):
            if runs := found.get(environment):
                _interval(axis, row, aggregation.estimate([runs]), _COLORS[row % len(_COLORS)])
                axis.plot(runs, [row + 0.22] * len(runs), "|", color="#6b6b6b", markersize=7)
        _rows(axis, list(rows))
        axis.set(title=environment, xlabel="success (IQM, 95% interval; each run)", xlim=(-0.02, 1.02))
    return True


def _interval(axis: Any, row: float, estimate: aggregation.Estimate, color: str) -> None:
    if estimate.interval is not None:
        axis.plot(estimate.interval, [row, row], color=color, linewidth=7, alpha=0.35, solid_capstyle="butt")
    axis.plot([estimate.value], [row], "o", color=color)


def _rows(axis: Any, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)


def _profile(pyplot: Any, results: Results) -> bool:
    _, axis = pyplot.subplots(figsize=(5.2, 3.4))
    thresholds = np.linspace(0, 1, 201)
    for algorithm in results.algorithms:
        found = scores(results.select("main", algorithm))
        runs = arrays(found, list(found))
        label = f"{algorithm} (n {sum(map(len, runs))})"
        axis.plot(thresholds, aggregation.performance_profile(runs, thresholds), drawstyle="steps-post", label=label)
    axis.set(xlabel="success", ylabel="share of runs above it", ylim=(-0.02, 1.02))
    axis.legend(fontsize=8)
    return True


def _improvement(pyplot: Any, results: Results) -> bool:
    own = scores(results.select("main", results.reference))
    rivals = [name for name in results.algorithms if name != results.reference]
    found = {rival: scores(results.select("main", rival)) for rival in rivals}
    rivals = [rival for rival in rivals if shared(own, found[rival])]
    if not rivals:
        return False
    _, axis = pyplot.subplots(figsize=(5.2, 0.45 * len(rivals) + 1.2))
    for row, rival in enumerate(rivals):
        both = shared(own, found[rival])
        better = aggregation.probability_of_improvement(arrays(own, both), arrays(found[rival], both))
        _interval(axis, row, better, _COLORS[0])
    axis.axvline(0.5, color="#6b6b6b", linestyle="--", linewidth=1)
    _rows(axis, rivals)
    axis.set(xlabel=f"P(a run of {results.reference} is better), 95% interval", xlim=(-0.02, 1.02))
    return True


def _ablations(pyplot: Any, results: Results) -> bool:
    named = ablations(results)
    if not named:
        return False
    rows = {name: scores(lines) for name, lines in of_ablations(results).items()}
    environments = [name for name in results.environments if any(name in rows[", ".join(key)] for key in named)]
    return _panels(pyplot, environments, rows)


def _grid(pyplot: Any, results: Results) -> bool:
    points = grid(results)
    if not points:
        return False
    _, axis = pyplot.subplots(figsize=(6, 0.45 * len(points) + 1.2))
    for row, found in enumerate(points.values()):
        values = list(found.values())
        axis.plot([min(values), max(values)], [row, row], color="#6b6b6b", linewidth=1)
        axis.plot(values, [row] * len(values), "o", color=_COLORS[0], alpha=0.6)
    _rows(axis, [", ".join(key) for key in points])
    axis.set(xlabel="success of each point of the grid", xlim=(-0.02, 1.02))
    return True
