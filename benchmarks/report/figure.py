"""The comparison of two models as one figure: the scores of each benchmark, and beside them the paired differences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.data import Scores
from benchmarks.report.differences import Comparison
from vldac.evaluation.statistics import Z95

_DPI = 150
_WIDTH, _HEIGHT, _ROW = 9.0, 1.55, 0.62  # inches: of the figure, of all but the rows, of a row
_BEFORE, _AFTER, _GREY = "#8a8f98", "#1f6fb4", "#6b6b6b"
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.parse_math": False,  # names are text, whatever they hold
}


def draw(path: Path, comparisons: Sequence[Comparison], names: tuple[str, str]) -> None:
    """Draws all benchmarks into a PNG of 1350 pixels' width, a row for each benchmark.

    Args:
        path: of the PNG.
        comparisons: in their order, from above.
        names: of the two models.
    """
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and only pictures need it
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    with mpl.rc_context(_STYLE):
        height = _HEIGHT + _ROW * len(comparisons)
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout=ConstrainedLayoutEngine(w_pad=0.1))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
        _draw_scores(left, comparisons, names)
        _draw_differences(right, comparisons, names)
        places = range(len(comparisons))
        left.set_yticks(places, [_label(comparison) for comparison in comparisons])
        left.set_ylim(len(comparisons) - 0.45, -0.55)
        for axis in (left, right):
            axis.tick_params(axis="y", length=0)
            axis.grid(axis="x", alpha=0.25, linewidth=0.6)
            axis.set_axisbelow(True)
            for place in places[1:]:
                axis.axhline(place - 0.5, color=_GREY, alpha=0.2, linewidth=0.6)
        legend = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
        legend |= {"chance": legend.pop("chance")} if "chance" in legend else {}  # last, after the models
        figure.legend(legend.values(), legend.keys(), loc="outside upper left", ncols=3, frameon=False, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the library's version in the file, the same scores draw the same bytes.
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})


def _label(comparison: Comparison) -> str:
    kinds = [word for word, holds in (("synthetic", comparison.synthetic), ("short", comparison.short)) if holds]
    title = "\n".join(textwrap.wrap(_plain(comparison.title), 24)[:2])
    return f"{title}\n({', '.join(kinds)})" if kinds else title


def _plain(text: str) -> str:
    """A text in the glyphs that the font is sure to have."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _draw_scores(axis: Any, comparisons: Sequence[Comparison], names: tuple[str, str]) -> None:
    for name, color, marker, shift, side in (
        (names[0], _BEFORE, "o", -0.13, "before"),
        (names[1], _AFTER, "s", 0.13, "after"),
    ):
        points: list[tuple[int, Scores]] = [
            (place, getattr(comparison.overall, side))
            for place, comparison in enumerate(comparisons)
            if getattr(comparison.overall, side) is not None
        ]
        axis.errorbar(
            [scores.score for _, scores in points],
            [place + shift for place, _ in points],
            xerr=[Z95 * (scores.standard_error or 0.0) for _, scores in points],
            fmt=marker,
            color=color,
            markersize=5.5,
            elinewidth=1.4,
            capsize=2.5,
            label=_plain(name),
        )
    levels = [
        (place, scores.metrics["chance"])
        for place, comparison in enumerate(comparisons)
        for scores in [comparison.overall.before or comparison.overall.after]
        if scores and "chance" in scores.metrics
    ]
    if levels:
        axis.plot(
            [level for _, level in levels],
            [place for place, _ in levels],
            "|",
            color=_GREY,
            markersize=24,
            markeredgewidth=1.2,
        )
        axis.plot([], [], "|", color=_GREY, markersize=10, markeredgewidth=1.2, label="chance")
    axis.set_xlim(0, _end(comparisons))
    axis.set_xlabel("score, percent")
    axis.set_title("Score and its 95% interval", loc="left", color=_GREY)


def _end(comparisons: Sequence[Comparison]) -> float:
    """Where the axis of scores ends: games are scored in few percent."""
    sides = [side for c in comparisons for side in (c.overall.before, c.overall.after) if side]
    most = max(max(side.score + Z95 * (side.standard_error or 0.0), side.metrics.get("chance", 0.0)) for side in sides)
    return min(100.0, max(5.0, 1.1 * most))


def _draw_differences(axis: Any, comparisons: Sequence[Comparison], names: tuple[str, str]) -> None:
    axis.axvline(0, color="black", linewidth=1)
    reach = 1.0
    for place, comparison in enumerate(comparisons):
        difference = comparison.overall.difference
        if difference is None:
            name = _plain(names[0] if comparison.overall.before else names[1])
            axis.text(0, place, f"  {name[:24]} only", va="center", color=_GREY, fontsize=8)
            continue
        low, high = difference.interval or (difference.mean, difference.mean)
        reach = max(reach, abs(low), abs(high))
        axis.errorbar(
            [difference.mean],
            [place],
            xerr=[[difference.mean - low], [high - difference.mean]],
            fmt="D",
            color=_AFTER,
            markerfacecolor=_AFTER if difference.clear else "white",
            markersize=5.5,
            elinewidth=1.4,
            capsize=2.5,
        )
        axis.annotate(
            f"{difference.mean:+.1f}".replace("-", "−"),
            (difference.mean, place),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    axis.set_xlim(-1.12 * reach, 1.12 * reach)
    axis.set_xlabel("difference, points (filled: the interval leaves out 0)")
    axis.set_title("Paired difference and its 95% interval", loc="left", color=_GREY)
