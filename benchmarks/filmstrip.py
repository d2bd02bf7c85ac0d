"""One episode as a strip of pictures: what the model saw and what it answered."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from vldac import answers

_MOST_FRAMES = 9
_GOOD_LENGTH = range(3, _MOST_FRAMES)


def draw(path: Path, title: str, policies: Mapping[str, Sequence[Any]]) -> None:
    """Draws the same filmed episode for each policy, one row each.

    The episode is the first evaluation seed that the last policy finished in 3 to 8 steps, or the first one at all:
    long enough to show something, short enough to fit. A longer row is cut and says so.

    Args:
        path: of the PNG.
        title: name of the world.
        policies: label to episodes (`benchmarks.simulator.Episode`) with frames.
    """
    filmed = {label: [e for e in episodes if e.frames] for label, episodes in policies.items()}
    last = list(filmed.values())[-1]
    seed = next((e.seed for e in last if e.success and e.length in _GOOD_LENGTH), last[0].seed)
    rows = {label: e for label, episodes in filmed.items() for e in episodes if e.seed == seed}
    columns = min(_MOST_FRAMES, max(len(e.frames) for e in rows.values()))
    figure = Figure(figsize=(1.75 * columns, 2.1 * len(rows) + 0.4), layout="constrained")
    figure.suptitle(f"{title}, evaluation seed {seed}", fontsize=12)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (label, episode) in zip(axes, rows.items(), strict=True):
        outcome = "reached the goal" if episode.success else "failed"
        row[0].set_title(f"{label}: {outcome} after {episode.length} steps", loc="left", fontsize=10)
        for column, axis in enumerate(row):
            axis.set_axis_off()
            if column >= len(episode.frames):
                continue
            axis.imshow(episode.frames[column], interpolation="nearest")
            axis.text(
                0.5, -0.04, _caption(episode, column), transform=axis.transAxes, ha="center", va="top", fontsize=8
            )
        if len(episode.frames) > columns:
            row[-1].set_title(f"+{len(episode.frames) - columns} more", loc="right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _caption(episode: Any, step: int) -> str:
    if step >= len(episode.replies):
        return "goal" if episode.success else "end"
    reply = "".join(c if c.isprintable() and c.isascii() else "?" for c in episode.replies[step])  # a font's few glyphs
    answer = answers.parse(reply)
    if answer is None:
        return "unreadable:\n" + "\n".join(textwrap.wrap(reply, 22)[:2])
    return "\n".join([*textwrap.wrap(answer.thoughts, 22)[:2], f"[{answer.action}]"])
