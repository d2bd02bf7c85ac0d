"""Episodes as strips of pictures: what the model saw and what it answered."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vldac import parsing

MOST_FRAMES = 9
_GOOD_LENGTH = range(3, MOST_FRAMES)


@dataclass(frozen=True)
class Strip:
    """One row of pictures.

    Attributes:
        title: above its first picture.
        frames: (H, W, 3) uint8 each; those past `MOST_FRAMES` are counted and not drawn.
        captions: one a frame, below it.
    """

    title: str
    frames: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]


def draw_strips(path: Path, heading: str, strips: Sequence[Strip]) -> None:
    """Draws strips below each other into a PNG."""
    columns = min(MOST_FRAMES, max(len(strip.frames) for strip in strips))
    heights = [1.78 + 0.16 * max(text.count("\n") + 1 for text in strip.captions[:columns]) for strip in strips]
    figure = Figure(figsize=(1.75 * columns, sum(heights) + 0.4), layout="constrained")
    figure.suptitle(heading, fontsize=12)
    axes = figure.subplots(len(strips), columns, squeeze=False, height_ratios=heights)
    for row, strip in zip(axes, strips, strict=True):
        row[0].set_title(" ", fontsize=10)  # holds the height; the title itself is wider than its picture
        title = row[0].text(0, 1.04, strip.title, transform=row[0].transAxes, ha="left", va="bottom", fontsize=10)
        title.set_in_layout(False)
        for axis in row:
            axis.set_axis_off()
        for axis, frame, caption in zip(row, strip.frames, strip.captions, strict=False):
            axis.imshow(frame, interpolation="nearest")
            axis.text(0.5, -0.04, caption, transform=axis.transAxes, ha="center", va="top", fontsize=8)
        if len(strip.frames) > columns:
            row[-1].set_title(f"+{len(strip.frames) - columns} more", loc="right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw(path: Path, title: str, policies: Mapping[str, Sequence[Any]]) -> None:
    """Draws the same filmed episode for each policy, one row each.

    The episode is the first evaluation seed that the last policy finished in 3 to 8 steps, or the first one at all:
    long enough to show something, short enough to fit. A longer row is cut and says so.

    Args:
        path: of the PNG.
        title: name of the environment.
        policies: label to episodes (`vldac.evaluation.episodes.Episode`) with frames.
    """
    filmed = {label: [e for e in episodes if e.frames] for label, episodes in policies.items()}
    last = list(filmed.values())[-1]
    seed = next((e.seed for e in last if e.success and e.length in _GOOD_LENGTH), last[0].seed)
    strips = [
        Strip(_outcome(label, e), e.frames, [_caption(e, step) for step in range(len(e.frames))])
        for label, episodes in filmed.items()
        for e in episodes
        if e.seed == seed
    ]
    draw_strips(path, f"{title}, evaluation seed {seed}", strips)


def _outcome(label: str, episode: Any) -> str:
    return f"{label}: {'reached the goal' if episode.success else 'failed'} after {episode.length} steps"


def _caption(episode: Any, step: int) -> str:
    if step >= len(episode.replies):
        return "goal" if episode.success else "end"
    return caption(episode.replies[step])


def caption(reply: str) -> str:
    """A model's reply in a few short lines: its thoughts, then its action in brackets."""
    reply = "".join(c if c.isprintable() and c.isascii() else "?" for c in reply)  # a font's few glyphs
    answer = parsing.parse_response(reply)
    if answer is None:
        return "unreadable:\n" + "\n".join(textwrap.wrap(reply, 22)[:2])
    return "\n".join([*textwrap.wrap(answer.thoughts, 22)[:2], *textwrap.wrap(f"[{answer.action}]", 26)[:2]])
