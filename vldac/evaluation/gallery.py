"""`make gallery`: one page with a filmstrip of each environment: what is seen, asked and answered, and what that earns.

    vldac gallery [--out gallery] [--envs MiniWorld-Hallway-v0 ...]

The answers are the environment's own expert's, after one bad one. Writes index.html, which needs no other file, and
gallery.png.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from envs import registry
from envs.base import EVALUATION_SEEDS, Env, Observation
from vldac import parsing
from vldac.evaluation.filmstrip import MOST_FRAMES, Strip, caption, draw_strips
from vldac.parsing import ParsedResponse
from vldac.utils.errors import report_errors
from vldac.utils.progress import Progress

#: The environments shown, with the size of their pictures in pixels.
ENVIRONMENTS: dict[str, tuple[int, int]] = {
    "MiniWorld-OneRoomS6Fast-v0": (320, 240),
    "GymCards-EZPoints-v0": (300, 300),
    "ALFWorld-v0": (400, 400),
    "WebShop-v0": (640, 480),
}
_BAD_ANSWER = "I would rather think about it first."
_SEEDS_TRIED = 8
_SHOWN = MOST_FRAMES - 1


@dataclass(frozen=True)
class Turn:
    """One answer and what came of it.

    Attributes:
        frame: the newest one shown before the answer, (H, W, 3) uint8.
        reply: the whole text.
        legal: it named an action that the environment accepts.
        reward: of the step.
    """

    frame: NDArray[np.uint8]
    reply: str
    legal: bool
    reward: float


@dataclass(frozen=True)
class Show:
    """One episode of one environment.

    Attributes:
        env_id: of the environment.
        about: the first paragraph of its documentation.
        prompt: of the first observation.
        turns: in order.
        last_frame: after the last answer.
        success: by the environment's own rule.
    """

    env_id: str
    about: str
    prompt: str
    turns: list[Turn]
    last_frame: NDArray[np.uint8]
    success: bool


def play(env_id: str, width: int, height: int) -> Show:
    """Plays one bad answer and then the expert's, on that of the first few evaluation seeds that fits the page best.

    Raises:
        RuntimeError: the environment has no expert, or its expert never succeeded.
    """
    env = registry.make(env_id, width=width, height=height)
    unwrapped = cast(Env, env.unwrapped)
    try:
        shows = [_play_seed(env, unwrapped, env_id, seed) for seed in EVALUATION_SEEDS[:_SEEDS_TRIED]]
    finally:
        env.close()
    succeeded = [show for show in shows if show.success]
    if not succeeded:
        raise RuntimeError(f"{env_id}: its expert failed on each of {_SEEDS_TRIED} seeds, or it has none")
    return min(succeeded, key=lambda show: abs(len(show.turns) - _SHOWN))


def _play_seed(env: Any, unwrapped: Env, env_id: str, seed: int) -> Show:
    observation, _ = env.reset(seed=seed)
    prompt, turns, reply = observation["prompt"], list[Turn](), _BAD_ANSWER
    ended, info = False, dict[str, Any]()
    while not ended:
        shown = cast(Observation, observation)["frames"][-1].copy()
        answer = parsing.parse_response(reply)
        action = unwrapped.parse_action(answer.action) if answer else None
        observation, reward, terminated, truncated, info = env.step(action)
        turns.append(Turn(shown, reply, not info["invalid"], float(reward)))
        ended = terminated or truncated
        if not ended:
            expert = unwrapped.expert_action()
            if expert is None:
                break
            reply = parsing.render_response(ParsedResponse(unwrapped.describe(), expert))
    about = " ".join((type(unwrapped).__doc__ or "").split("\n\n")[0].split())
    success = bool(info.get("success", False))
    return Show(env_id, about, prompt, turns, observation["frames"][-1].copy(), success)


def page(shows: Sequence[Show]) -> str:
    """The whole gallery as one HTML document without scripts, links or other files."""
    sections = "\n".join(_section(show) for show in shows)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The worlds</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>The worlds</h1>
<p>What a model sees, what it is asked, what it may answer, and what that earns. The first answer of each episode is a
bad one; the others are the world's own expert's, with a true description of the scene for thoughts.</p>
{sections}
</body></html>
"""


def _section(show: Show) -> str:
    cards: list[str] = []
    shown = _shown(len(show.turns))
    for before, number in zip([-1, *shown], shown, strict=False):
        if number > before + 1:
            cards.append(f'<div class="gap">{number - before - 1} more steps</div>')
        cards.append(_card(show.turns[number], number + 1))
    cards.append(f'<figure>{_picture(show.last_frame)}<figcaption class="end">{_outcome(show)}</figcaption></figure>')
    return f"""<section><h2>{escape(show.env_id)}</h2><p>{escape(show.about)}</p>
<details open><summary>What it is asked at the first step</summary><pre>{escape(show.prompt)}</pre></details>
<div class="strip">{"".join(cards)}</div></section>"""


def _shown(turns: int) -> list[int]:
    """The turns there is room for: the first ones and the last ones."""
    return [n for n in range(turns) if turns <= _SHOWN or n < _SHOWN // 2 or n >= turns - _SHOWN // 2]


def _outcome(show: Show) -> str:
    total = sum(turn.reward for turn in show.turns)
    outcome = "success" if show.success else "no success"
    return f"{outcome} after {len(show.turns)} steps, return {total:.3g}"


def _card(turn: Turn, number: int) -> str:
    kind, verdict = ("good", "legal") if turn.legal else ("bad", "names no legal action")
    return (
        f"<figure>{_picture(turn.frame)}<figcaption><b>step {number}</b>"
        f'<code>{escape(turn.reply)}</code><span class="{kind}">{verdict}, reward {turn.reward:.3g}</span>'
        "</figcaption></figure>"
    )


def _picture(frame: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def strips(shows: Sequence[Show]) -> list[Strip]:
    """The same episodes as rows of a picture."""
    rows = []
    for show in shows:
        turns = [(n + 1, show.turns[n]) for n in _shown(len(show.turns))]
        captions = [f"step {n}\n{caption(turn.reply)}\nreward {turn.reward:.3g}" for n, turn in turns]
        frames = [turn.frame for _, turn in turns]
        rows.append(Strip(f"{show.env_id}: {_outcome(show)}", [*frames, show.last_frame], [*captions, "end"]))
    return rows


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1d2733;max-width:1500px;margin:2rem auto;padding:0 1.5rem}
h1{margin-bottom:.2rem}h2{margin:2.2rem 0 .3rem;border-top:1px solid #d5dbe2;padding-top:1.4rem}p{max-width:62rem}
pre{white-space:pre-wrap;background:#f4f6f8;padding:.8rem 1rem;border-radius:6px;font-size:13px;max-width:62rem}
summary{cursor:pointer;color:#44576b}.strip{display:flex;flex-wrap:wrap;gap:14px;padding:.6rem 0 1rem}
figure{margin:0;flex:0 0 250px}img{width:100%;border:1px solid #d5dbe2;border-radius:4px;image-rendering:auto}
figcaption{display:flex;flex-direction:column;gap:.3rem;font-size:13px;margin-top:.3rem}
code{background:#f4f6f8;padding:.35rem .5rem;border-radius:4px;overflow-wrap:anywhere}
.good{color:#1c6b3c}.bad{color:#a8321f;font-weight:600}.end{font-weight:600}
.gap{flex:0 0 90px;align-self:center;text-align:center;color:#6b7885}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="vldac gallery", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gallery"), help="directory (default: %(default)s)")
    parser.add_argument("--envs", nargs="+", default=list(ENVIRONMENTS), metavar="ID", help="default: one of each kind")
    options = parser.parse_args(arguments)
    shows = []
    with Progress("gallery", len(options.envs), "environments") as progress:
        for env_id in options.envs:
            shows.append(play(env_id, *ENVIRONMENTS.get(env_id, (320, 240))))
            progress.advance()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "index.html").write_text(page(shows), encoding="utf-8")
    draw_strips(options.out / "gallery.png", "One bad answer, then the expert's", strips(shows))
    print(f"open {options.out / 'index.html'} in a browser; {options.out / 'gallery.png'} is the same as a picture")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
