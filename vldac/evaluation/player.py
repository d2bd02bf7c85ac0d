"""Episodes to look at, step by step: an HTML page that needs nothing else, and an animated GIF."""

from __future__ import annotations

import base64
import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vldac.evaluation import pages

_GIF_WIDTH, _GIF_PICTURE, _GIF_TEXT = 320, 240, 112  # pixels of a panel
_GIF_STEP, _GIF_END = 900, 2500  # milliseconds


@dataclass(frozen=True)
class Token:
    """A token as it was sampled.

    Attributes:
        text: what it adds to the response.
        probability: under the distribution that was sampled from.
    """

    text: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """One response, looked into.

    Attributes:
        tokens: in order, without the end of turn.
        action: in the model's words; None if it named none.
        value: the critic's of the state before it; None without a critic.
        actions: each legal action and its probability among them, given the thoughts; empty where none were readable.
    """

    tokens: tuple[Token, ...]
    action: str | None
    value: float | None
    actions: tuple[tuple[str, float], ...]

    def data(self) -> dict[str, Any]:
        """What a page shows of it, as JSON values."""
        return {
            "tokens": [[token.text, round(token.probability, 4)] for token in self.tokens],
            "action": self.action,
            "value": self.value,
            "actions": [[name, round(probability, 4)] for name, probability in self.actions],
        }


@dataclass(frozen=True)
class Turn:
    """One response and what came of it.

    Attributes:
        frame: the newest one shown before it, (H, W, 3) uint8.
        prompt: the whole text shown before it.
        answer: the response.
        legal: the environment accepted its action.
        reward: of the step.
    """

    frame: NDArray[np.uint8]
    prompt: str
    answer: Answer
    legal: bool
    reward: float


@dataclass(frozen=True)
class Panel:
    """One episode of one policy.

    Attributes:
        label: of the policy.
        success: by the environment's own rule.
        turns: in order.
        last_frame: after the last of them.
    """

    label: str
    success: bool
    turns: tuple[Turn, ...]
    last_frame: NDArray[np.uint8]

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of rewards."""
        return sum(turn.reward for turn in self.turns)

    @property
    def outcome(self) -> str:
        """How it ended, such as "success after 3 steps, return 1"."""
        return outcome(len(self.turns), self.episode_return, success=self.success)


def outcome(steps: int, episode_return: float, *, success: bool) -> str:
    """How an episode ended, such as "success after 3 steps, return 1"."""
    count = f"{steps} step{'s' if steps != 1 else ''}"
    return f"{'success' if success else 'no success'} after {count}, return {episode_return:.3g}"


@dataclass(frozen=True)
class Show:
    """The episode of one seed, by one policy or by several side by side.

    Attributes:
        seed: of its reset.
        panels: one a policy.
    """

    seed: int
    panels: tuple[Panel, ...]


def page(title: str, shows: Sequence[Show]) -> str:
    """The player as one HTML document without links or other files.

    What a model or an environment wrote is data in it: it is set as text, and the document may load nothing.
    """
    data = json.dumps(_data(shows), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":  # nothing in it may end the element
        data = data.replace(character, f"\\u{ord(character):04x}")
    style = pages.text("shared.css") + pages.text("watch.css")
    script = pages.text("shared.js") + pages.text("watch.js")
    whole = pages.text("watch.html").replace("@TITLE@", escape(title))
    return whole.replace("@STYLE@", style).replace("@SCRIPT@", script).replace("@DATA@", data)


def _data(shows: Sequence[Show]) -> dict[str, Any]:
    pictures: dict[str, int] = {}
    prompts: dict[str, int] = {}

    def turn_data(turn: Turn, total: float) -> dict[str, Any]:
        return {
            **turn.answer.data(),
            "frame": pictures.setdefault(data_uri(turn.frame), len(pictures)),
            "prompt": prompts.setdefault(turn.prompt, len(prompts)),
            "legal": turn.legal,
            "reward": turn.reward,
            "total": total,
        }

    def panel_data(panel: Panel) -> dict[str, Any]:
        totals = np.cumsum([turn.reward for turn in panel.turns]).tolist()
        return {
            "label": panel.label,
            "success": panel.success,
            "outcome": panel.outcome,
            "turns": [turn_data(turn, total) for turn, total in zip(panel.turns, totals, strict=True)],
            "last": pictures.setdefault(data_uri(panel.last_frame), len(pictures)),
        }

    episodes = [{"seed": show.seed, "panels": [panel_data(panel) for panel in show.panels]} for show in shows]
    return {"episodes": episodes, "pictures": list(pictures), "prompts": list(prompts)}


def data_uri(frame: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) uint8 as the address of a PNG that holds it."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def animate(path: Path, title: str, shows: Sequence[Show]) -> None:
    """Draws the episodes, one after the other, into an animated GIF: a picture a step, policies side by side."""
    pictures: list[Image.Image] = []
    durations: list[int] = []
    for show in shows:
        last = max(len(panel.turns) for panel in show.panels)
        for step in range(last + 1):
            pictures.append(_picture(title, show, step))
            durations.append(_GIF_END if step == last else _GIF_STEP)
    columns = max(len(show.panels) for show in shows)
    size = (_GIF_WIDTH * columns, _GIF_PICTURE + _GIF_TEXT + 48)
    canvases = [Image.new("RGB", size, "white") for _ in pictures]
    for canvas, picture in zip(canvases, pictures, strict=True):
        canvas.paste(picture, (0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvases[0].save(path, save_all=True, append_images=canvases[1:], duration=durations, loop=0)


def _picture(title: str, show: Show, step: int) -> Image.Image:
    image = Image.new("RGB", (_GIF_WIDTH * len(show.panels), _GIF_PICTURE + _GIF_TEXT + 48), "white")
    draw, font, small = ImageDraw.Draw(image), ImageFont.load_default(14), ImageFont.load_default(12)
    seed = f", seed {show.seed}"
    heading = _shortened(title, small, image.width - 16 - small.getlength(seed))
    draw.text((8, 4), heading + seed, "#44576b", small)
    for column, panel in enumerate(show.panels):
        left, ended = column * _GIF_WIDTH, step >= len(panel.turns)
        frame = panel.last_frame if ended else panel.turns[step].frame
        height, width = frame.shape[:2]
        scale = min((_GIF_WIDTH - 16) / width, _GIF_PICTURE / height)
        size = (round(width * scale), round(height * scale))
        draw.text((left + 8, 22), _shortened(panel.label, font, _GIF_WIDTH - 16), "#1d2733", font)
        image.paste(Image.fromarray(frame).resize(size, Image.Resampling.NEAREST), (left + 8, 44))
        lines = [_shortened(line, small, _GIF_WIDTH - 16) for line in _lines(panel, step)]
        color = "#1c6b3c" if ended and panel.success else "#a8321f" if ended else "#1d2733"
        draw.text((left + 8, 50 + _GIF_PICTURE), "\n".join(lines), color, small)
    return image


def _lines(panel: Panel, step: int) -> list[str]:
    if step >= len(panel.turns):
        return [panel.outcome]
    turn = panel.turns[step]
    said = textwrap.wrap(_drawable("".join(token.text for token in turn.answer.tokens)), 46)[:4]
    total = sum(earlier.reward for earlier in panel.turns[: step + 1])
    return [f"step {step + 1}, reward {turn.reward:.3g}, return {total:.3g}", *said]


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """A text of at most `width` pixels: of a longer one the middle is left out, for the end tells versions apart."""
    text = shown = _drawable(text)
    kept = len(text)
    while kept and font.getlength(shown) > width:
        kept -= 1
        end = kept // 3
        shown = f"{text[: kept - end]}...{text[len(text) - end :]}"
    return shown


def _drawable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
