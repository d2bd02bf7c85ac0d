"""Texts of models and files in a page of HTML: hostile input that may show itself and do nothing else."""

from __future__ import annotations

from html import escape

from benchmarks.report.differences import Difference


def shown(text: str, most: int) -> str:
    """A text as HTML that stays in its element, cut at `most` characters.

    Line breaks and tabs stay. Whatever a browser would not draw, or would let reach beyond its place (control and
    format characters, such as the one that turns the direction of what follows, and halves of surrogate pairs, which
    no file can hold) is shown as its escape.
    """
    html = "".join(map(_character, text[:most]))
    if len(text) > most:
        html += f'<span class="cut"> … {len(text) - most:,} more characters</span>'
    return html


def _character(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return escape(character)
    return f'<span class="control">{character.encode("unicode_escape").decode("ascii")}</span>'


def signed(value: float) -> str:
    """A difference with its sign, a true minus, and no sign where it rounds to nothing."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def interval(difference: Difference) -> str:
    """A difference with its 95% interval."""
    if difference.interval is None:
        return f"{signed(difference.mean)} [unknown]"
    low, high = difference.interval
    return f"{signed(difference.mean)} [{signed(low)}, {signed(high)}]"


def whisker(difference: Difference | None, reach: float) -> str:
    """A difference and its interval as a small picture (SVG), 0 in the middle.

    Args:
        difference: None draws the line at 0 only.
        reach: the value at both ends.
    """
    parts = ['<line class="zero" x1="80" x2="80" y1="0" y2="20"/>']
    if difference is not None:
        low, high = (_place(value, reach) for value in difference.interval or (difference.mean,) * 2)
        kind = "clear" if difference.clear else "open"
        parts.append(f'<line class="bar" x1="{low:.1f}" x2="{high:.1f}" y1="10" y2="10"/>')
        parts.append(f'<circle class="{kind}" cx="{_place(difference.mean, reach):.1f}" cy="10" r="4"/>')
    return f'<svg viewBox="0 0 160 20" width="160" height="20" aria-hidden="true">{"".join(parts)}</svg>'


def _place(value: float, reach: float) -> float:
    return 80 + 75 * value / reach
