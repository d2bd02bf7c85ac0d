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
class Turn:
    """One response and what came of it.

    Attributes:
        frame: the newest one shown before it, (H, W, 3) uint8.
        prompt: the whole text shown before it.
        tokens: in order, without the end of turn.
        action: in the model's words; None if it named none.
        legal: the environment accepted it.
        reward: of the step.
        value: the critic's of the state before it; None without a critic.
        actions: each legal action and its probability among them, given the thoughts; empty where none were readable.
    """

    frame: NDArray[np.uint8]
    prompt: str
    tokens: tuple[Token, ...]
    action: str | None
    legal: bool
    reward: float
    value: float | None
    actions: tuple[tuple[str, float], ...]


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
        count = len(self.turns)
        steps = f"{count} step{'s' if count != 1 else ''}"
        return f"{'success' if self.success else 'no success'} after {steps}, return {self.episode_return:.3g}"


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
    return (_PAGE.replace("@TITLE@", escape(title)).replace("@STYLE@", _STYLE).replace("@SCRIPT@", _SCRIPT)).replace(
        "@DATA@", data
    )


def _data(shows: Sequence[Show]) -> dict[str, Any]:
    pictures: dict[str, int] = {}
    prompts: dict[str, int] = {}

    def turn_data(turn: Turn, total: float) -> dict[str, Any]:
        return {
            "frame": pictures.setdefault(_data_uri(turn.frame), len(pictures)),
            "prompt": prompts.setdefault(turn.prompt, len(prompts)),
            "tokens": [[token.text, round(token.probability, 4)] for token in turn.tokens],
            "action": turn.action,
            "legal": turn.legal,
            "reward": turn.reward,
            "total": total,
            "value": turn.value,
            "actions": [[name, round(probability, 4)] for name, probability in turn.actions],
        }

    def panel_data(panel: Panel) -> dict[str, Any]:
        totals = np.cumsum([turn.reward for turn in panel.turns]).tolist()
        return {
            "label": panel.label,
            "success": panel.success,
            "outcome": panel.outcome,
            "turns": [turn_data(turn, total) for turn, total in zip(panel.turns, totals, strict=True)],
            "last": pictures.setdefault(_data_uri(panel.last_frame), len(pictures)),
        }

    episodes = [{"seed": show.seed, "panels": [panel_data(panel) for panel in show.panels]} for show in shows]
    return {"episodes": episodes, "pictures": list(pictures), "prompts": list(prompts)}


def _data_uri(frame: NDArray[np.uint8]) -> str:
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
            pictures.append(_picture(f"{title}, seed {show.seed}", show, step))
            durations.append(_GIF_END if step == last else _GIF_STEP)
    columns = max(len(show.panels) for show in shows)
    size = (_GIF_WIDTH * columns, _GIF_PICTURE + _GIF_TEXT + 48)
    canvases = [Image.new("RGB", size, "white") for _ in pictures]
    for canvas, picture in zip(canvases, pictures, strict=True):
        canvas.paste(picture, (0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvases[0].save(path, save_all=True, append_images=canvases[1:], duration=durations, loop=0)


def _picture(heading: str, show: Show, step: int) -> Image.Image:
    image = Image.new("RGB", (_GIF_WIDTH * len(show.panels), _GIF_PICTURE + _GIF_TEXT + 48), "white")
    draw, font, small = ImageDraw.Draw(image), ImageFont.load_default(14), ImageFont.load_default(12)
    draw.text((8, 4), heading, "#44576b", small)
    for column, panel in enumerate(show.panels):
        left, ended = column * _GIF_WIDTH, step >= len(panel.turns)
        frame = panel.last_frame if ended else panel.turns[step].frame
        height, width = frame.shape[:2]
        scale = min((_GIF_WIDTH - 16) / width, _GIF_PICTURE / height)
        size = (round(width * scale), round(height * scale))
        draw.text((left + 8, 22), panel.label, "#1d2733", font)
        image.paste(Image.fromarray(frame).resize(size, Image.Resampling.NEAREST), (left + 8, 44))
        lines = _lines(panel, step)
        color = "#1c6b3c" if ended and panel.success else "#a8321f" if ended else "#1d2733"
        draw.text((left + 8, 50 + _GIF_PICTURE), "\n".join(lines), color, small)
    return image


def _lines(panel: Panel, step: int) -> list[str]:
    if step >= len(panel.turns):
        return [panel.outcome]
    turn = panel.turns[step]
    said = textwrap.wrap(_drawable("".join(token.text for token in turn.tokens)), 46)[:4]
    total = sum(earlier.reward for earlier in panel.turns[: step + 1])
    return [f"step {step + 1}, reward {turn.reward:.3g}, return {total:.3g}", *said]


def _drawable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>@STYLE@</style></head><body>
<header><h1>@TITLE@</h1><nav id="episodes" aria-label="Episodes"></nav></header>
<main id="panels"></main>
<details><summary>What the model is asked at this step</summary><pre id="prompt"></pre></details>
<footer><button id="back" aria-label="Step back">&#9664;&#9664;</button><button id="play">Play</button>
<button id="on" aria-label="Step on">&#9654;&#9654;</button>
<input id="scrub" type="range" min="0" value="0" aria-label="Position"><output id="where"></output></footer>
<script type="application/json" id="data">@DATA@</script><script>@SCRIPT@</script></body></html>
"""

_STYLE = """
:root{color-scheme:light dark;--text:#1d2733;--soft:#5b6b7b;--page:#fff;--card:#f4f6f8;--line:#d5dbe2;--blue:#2563c4;
--good:#1c6b3c;--bad:#b3361f;--unsure:#e8a33d}
@media(prefers-color-scheme:dark){:root{--text:#e4e9ee;--soft:#9aa8b5;--page:#14191f;--card:#1e252d;--line:#38434f;
--blue:#6ea8ff;--good:#5cc98a;--bad:#ff8a73;--unsure:#a86f14}}
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;color:var(--text);background:var(--page);max-width:1240px;margin:0 auto;
padding:0 1rem 5rem}
h1{font-size:1.25rem;margin:1rem 0 .5rem}h2{font-size:1rem;margin:0}
nav{display:flex;flex-wrap:wrap;gap:.5rem;margin-bottom:.8rem}
button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:6px;
padding:.35rem .7rem;cursor:pointer}
button[aria-pressed=true]{border-color:var(--blue);color:var(--blue);font-weight:600}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:1rem}
section{border:1px solid var(--line);border-radius:10px;padding:.8rem;min-width:0;display:grid;gap:.7rem;
align-content:start}
.alone section{grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr))}
.column{display:grid;gap:.7rem;align-content:start;min-width:0}
.top{display:grid;gap:.1rem}.top span{font-size:14px}h2{overflow-wrap:anywhere}
img{width:100%;max-height:34vh;object-fit:contain;image-rendering:pixelated;background:var(--card);border-radius:6px}
.said{background:var(--card);border-radius:6px;padding:.5rem .6rem;min-height:5.2em;
font:13px/1.7 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.said span{border-radius:3px;background:color-mix(in srgb,var(--unsure) var(--doubt),transparent)}
.numbers{display:grid;grid-template-columns:repeat(4,1fr);gap:.4rem;margin:0}
.numbers div{background:var(--card);border-radius:6px;padding:.3rem .5rem}
dt{font-size:12px;color:var(--soft)}dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.bars{display:grid;gap:.25rem;font-size:13px;max-height:15rem;overflow:auto}.bars:empty{display:none}
.bar{display:grid;grid-template-columns:minmax(5em,9em) 1fr 3.2em;gap:.5rem;align-items:center}
.bar i{display:block;height:.7em;background:var(--blue);border-radius:3px;min-width:1px}
.bar.taken{font-weight:700}.bar span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar b{font-weight:inherit;text-align:right;font-variant-numeric:tabular-nums}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}.note{color:var(--soft);font-size:13px}
svg{width:100%;height:64px;background:var(--card);border-radius:6px;display:block}
details{margin-top:1rem}summary{cursor:pointer;color:var(--soft)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);padding:.8rem;border-radius:6px;font-size:13px}
footer{position:fixed;left:0;right:0;bottom:0;background:var(--page);border-top:1px solid var(--line);display:flex;
flex-wrap:wrap;gap:.5rem;align-items:center;padding:.55rem max(1rem,calc((100vw - 1240px)/2 + 1rem))}
#scrub{flex:1 1 8rem;min-width:0;accent-color:var(--blue)}
output{font-size:13px;color:var(--soft);font-variant-numeric:tabular-nums}
"""

_SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent), HOLD = 5, TICK = 90;
const at = id => document.getElementById(id);
let episode, ticks, position = 0, timer = null;

function make(tag, parent, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  if (parent) parent.append(node);
  return node;
}
const number = value => value === null ? "none" : (Math.round(value * 1000) / 1000).toString();

function open(index) {
  episode = data.episodes[index];
  [...at("episodes").children].forEach((button, i) => button.setAttribute("aria-pressed", i === index));
  const steps = Math.max(...episode.panels.map(panel => panel.turns.length));
  ticks = [];
  for (let step = 0; step < steps; step++) {
    const longest = Math.max(...episode.panels.map(panel => panel.turns[step]?.tokens.length ?? 0));
    for (let tick = 0; tick <= longest + HOLD; tick++) ticks.push([step, tick]);
  }
  ticks.push([steps, 0]);
  at("panels").className = episode.panels.length === 1 ? "alone" : "";
  at("scrub").max = ticks.length - 1;
  go(0);
}

function chart(parent, panel, step, whole) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const totals = [0, ...panel.turns.map(turn => turn.total)], values = panel.turns.map(turn => turn.value);
  const lines = [["var(--blue)", totals, step + (whole ? 2 : 1)], ["var(--unsure)", values, step + 1]];
  const all = [...totals, ...values].filter(v => v !== null), low = Math.min(...all), high = Math.max(...all);
  const x = i => 4 + 292 * i / panel.turns.length, y = v => 58 - 52 * (v - low) / (high - low || 1);
  svg.setAttribute("viewBox", "0 0 300 64");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "Return and value by step");
  for (const [color, all, count] of lines) {
    if (all.some(v => v === null)) continue;
    const line = document.createElementNS(svg.namespaceURI, "polyline");
    line.setAttribute("points", all.slice(0, count).map((v, i) => x(i) + "," + y(v)).join(" "));
    for (const [key, value] of [["fill", "none"], ["stroke", color], ["stroke-width", 2],
      ["vector-effect", "non-scaling-stroke"]]) line.setAttribute(key, value);
    svg.append(line);
  }
  parent.append(svg);
  const valued = values.every(v => v !== null);
  make("div", parent, valued ? "return (blue) and value (amber) by step" : "return by step", "note");
}

function draw(panel, step, tick) {
  const section = make("section"), ended = step >= panel.turns.length;
  const left = make("div", section, undefined, "column"), right = make("div", section, undefined, "column");
  const turn = panel.turns[Math.min(step, panel.turns.length - 1)];
  const shown = ended ? turn.tokens.length : Math.min(tick, turn.tokens.length);
  const whole = ended || tick > turn.tokens.length;
  const top = make("div", left, undefined, "top");
  make("h2", top, panel.label);
  if (ended) make("span", top, panel.outcome, panel.success ? "good" : "bad");
  else make("span", top, "step " + (step + 1) + " of " + panel.turns.length, "note");
  const picture = make("img", left);
  picture.alt = "What the policy sees";
  picture.src = data.pictures[ended ? panel.last : turn.frame];
  const said = make("div", right, undefined, "said");
  for (const [text, probability] of turn.tokens.slice(0, shown)) {
    const token = make("span", said, text);
    token.style.setProperty("--doubt", Math.round(100 * (1 - probability)) + "%");
    token.title = "probability " + probability;
  }
  const latest = turn.tokens[shown - 1];
  make("div", right, latest ? "token " + shown + " of " + turn.tokens.length + ", probability " +
    latest[1].toFixed(3) + "; the stronger its color, the less likely a token was" : "", "note");
  const numbers = make("dl", right, undefined, "numbers");
  const before = turn.total - turn.reward;
  for (const [name, value, kind] of [
    ["action", whole ? (turn.action ?? "none") : "", whole && !turn.legal ? "bad" : ""],
    ["reward", whole ? number(turn.reward) : "", ""], ["return", number(whole ? turn.total : before), ""],
    ["value", number(turn.value), ""]]) {
    const cell = make("div", numbers);
    make("dt", cell, name);
    make("dd", cell, value || "\\u00a0", kind);
  }
  const bars = make("div", right, undefined, "bars");
  for (const [name, probability] of turn.actions) {
    const bar = make("div", bars, undefined, whole && turn.legal && name === turn.action ? "bar taken" : "bar");
    make("span", bar, name).title = name;
    make("i", make("div", bar)).style.width = 100 * probability + "%";
    make("b", bar, probability.toFixed(2));
  }
  make("div", right, turn.actions.length ? "probability of each legal action among them, given the thoughts"
    : "the response could not be read, so no action has a probability", "note");
  chart(right, panel, step, whole);
  return section;
}

function go(to) {
  position = Math.max(0, Math.min(to, ticks.length - 1));
  const [step, tick] = ticks[position];
  const scrolled = [...document.querySelectorAll(".bars")].map(bars => bars.scrollTop);
  at("panels").replaceChildren(...episode.panels.map(panel => draw(panel, step, tick)));
  document.querySelectorAll(".bars").forEach((bars, i) => { bars.scrollTop = scrolled[i] ?? 0; });
  const longest = episode.panels.reduce((a, b) => a.turns.length >= b.turns.length ? a : b);
  at("prompt").textContent = data.prompts[longest.turns[Math.min(step, longest.turns.length - 1)].prompt];
  at("scrub").value = position;
  at("where").textContent = step >= longest.turns.length ? "end" : "step " + (step + 1) + " of " + longest.turns.length;
  if (position === ticks.length - 1) stop();
}
function stop() {
  clearInterval(timer);
  timer = null;
  at("play").textContent = "Play";
}
function play() {
  if (timer) return stop();
  if (position === ticks.length - 1) go(0);
  timer = setInterval(() => go(position + 1), TICK);
  at("play").textContent = "Pause";
}
function jump(by) {
  stop();
  const step = ticks[position][0] + by, ends = ticks.map(([s], i) => s === step ? i : -1).filter(i => i >= 0);
  go(ends.length ? ends[ends.length - 1] : by < 0 ? 0 : ticks.length - 1);
}
data.episodes.forEach((one, index) => {
  const good = one.panels[0].success;
  const button = make("button", at("episodes"), (good ? "success" : "failure") + ", seed " + one.seed);
  button.onclick = () => { stop(); open(index); };
});
at("play").onclick = play;
at("back").onclick = () => jump(-1);
at("on").onclick = () => jump(1);
at("scrub").oninput = event => { stop(); go(Number(event.target.value)); };
document.onkeydown = event => {
  const keys = { ArrowLeft: () => jump(-1), ArrowRight: () => jump(1), " ": play };
  if (event.target.tagName === "INPUT" || event.target.tagName === "BUTTON" && event.key === " ") return;
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
};
open(0);
if (location.hash === "#end") go(ticks.length - 1);
"""
