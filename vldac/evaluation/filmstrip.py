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
from vldac.evaluation.choice import choose

MOST_FRAMES = 9
_PLAIN: dict[str, Any] = {"parse_math": False}  # what a model writes between dollars is no formula
_BEGINNING = 4  # frames of a longer episode that are drawn before its last ones


@dataclass(frozen=True)
class Strip:
    """One row of pictures.

    Attributes:
        title: above its first picture.
        frames: (H, W, 3) uint8 each; of more than `MOST_FRAMES`, the middle ones are counted and not drawn.
        captions: one a frame, below it.
    """

    title: str
    frames: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]


def draw_strips(path: Path, heading: str, strips: Sequence[Strip]) -> None:
    """Draws strips below each other into a PNG."""
    columns = min(MOST_FRAMES, max(len(strip.frames) for strip in strips))
    shown = [_shown(len(strip.frames)) for strip in strips]
    heights = [
        1.78 + 0.16 * max(strip.captions[i].count("\n") + 1 for i in drawn)
        for strip, drawn in zip(strips, shown, strict=True)
    ]
    figure = Figure(figsize=(1.75 * columns, sum(heights) + 0.4), layout="constrained")
    figure.suptitle(heading, fontsize=12)
    axes = figure.subplots(len(strips), columns, squeeze=False, height_ratios=heights)
    for row, strip, drawn in zip(axes, strips, shown, strict=True):
        row[0].set_title(" ", fontsize=10)  # holds the height; the title itself is wider than its picture
        title = row[0].text(
            0, 1.04, strip.title, transform=row[0].transAxes, ha="left", va="bottom", fontsize=10, **_PLAIN
        )
        title.set_in_layout(False)
        for axis in row:
            axis.set_axis_off()
        for axis, i in zip(row, drawn, strict=False):
            axis.imshow(strip.frames[i], interpolation="nearest")
            axis.text(
                0.5, -0.04, strip.captions[i], transform=axis.transAxes, ha="center", va="top", fontsize=8, **_PLAIN
            )
        if left_out := len(strip.frames) - len(drawn):
            row[_BEGINNING].set_title(f"{left_out} more steps, then", loc="left", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _shown(frames: int) -> list[int]:
    """The frames there is room for: the first ones, and the last ones, with what the episode ended in."""
    ending = MOST_FRAMES - _BEGINNING
    return [i for i in range(frames) if frames <= MOST_FRAMES or i < _BEGINNING or i >= frames - ending]


def draw(path: Path, title: str, policies: Mapping[str, Sequence[Any]]) -> None:
    """Draws the same filmed episodes for each policy, a row each: the last policy's hardest success, and one failure.

    Args:
        path: of the PNG.
        title: name of the environment.
        policies: label to episodes (`vldac.evaluation.episodes.Episode`) with frames.
    """
    filmed = {label: {e.seed: e for e in episodes if e.frames} for label, episodes in policies.items()}
    *others, last = filmed.values()
    seeds = [seed for seed in last if all(seed in other for other in others)]
    chosen = [seeds[i] for i in choose([(last[seed], *(other[seed] for other in others)) for seed in seeds])]
    strips = [
        Strip(
            _outcome(f"seed {seed}, {label}", episodes[seed]),
            episodes[seed].frames,
            [_caption(episodes[seed], step) for step in range(len(episodes[seed].frames))],
        )
        for seed in chosen
        for label, episodes in filmed.items()
    ]
    draw_strips(path, title, strips)


def _outcome(label: str, episode: Any) -> str:
    return f"{label}: {'reached the goal' if episode.success else 'failed'} after {episode.length} steps"


def _caption(episode: Any, step: int) -> str:
    if step >= len(episode.replies):
        return "goal" if episode.success else "end"
    return caption(episode.replies[step])


def caption(reply: str) -> str:
    """A model's reply in a few short lines: its thoughts, then its action in brackets."""
    answer = parsing.parse_response(reply)
    if answer is None:
        return "unreadable:\n" + "\n".join(textwrap.wrap(_glyphs(reply), 22)[:2])
    thoughts, action = _glyphs(answer.thoughts), _glyphs(f"[{answer.action}]")
    return "\n".join([*textwrap.wrap(thoughts, 22)[:2], *textwrap.wrap(action, 26)[:2]])


def _glyphs(text: str) -> str:
    """What a font has signs for."""
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text)
