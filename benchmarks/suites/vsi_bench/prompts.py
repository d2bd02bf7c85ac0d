"""What a model is asked: the official prompts in meaning, in two lengths."""

from __future__ import annotations

from benchmarks.harness.options import Style
from benchmarks.suites.vsi_bench.dataset import Item
from benchmarks.suites.vsi_bench.scoring import MULTIPLE_CHOICE

_BEFORE = "The images are frames of one video, in order."
_CHOOSE: dict[Style, str] = {
    "full": "Choose one of these options and reply with nothing but its letter.",
    "terse": "answer with a letter.",
}
_ESTIMATE: dict[Style, str] = {
    "full": "Reply with nothing but a number.",
    "terse": "answer with a number.",
}


def prompt(item: Item, style: Style) -> str:
    """The text that follows the frames: what they are, the question, its options, and how to answer."""
    lines = [] if style == "terse" else [_BEFORE]
    lines.append(item.question)
    if item.question_type in MULTIPLE_CHOICE:
        lines += ["Options:", *item.options, _CHOOSE[style]]
    else:
        lines.append(_ESTIMATE[style])
    return "\n".join(lines)
