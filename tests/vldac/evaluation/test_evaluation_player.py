"""The page and the GIF of episodes: whole, self-contained, and inert whatever a model wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageSequence
from playwright.sync_api import Page, sync_playwright

from envs.webshop.browser import find_executable
from vldac.evaluation.player import Answer, Panel, Show, Token, Turn, animate, page

HOSTILE = "</script><script>alert(1)</script>\u2028<!-- \x00"


def turn(shade: int, text: str = "go", **changes: Any) -> Turn:
    values: dict[str, Any] = {
        "frame": np.full((6, 8, 3), shade, np.uint8),
        "prompt": f"prompt {text}",
        "legal": True,
        "reward": -1.0,
    }
    answer: dict[str, Any] = {
        "tokens": (Token(text, 0.25), Token("}", 1.0)),
        "action": "left",
        "value": 0.5,
        "actions": (("left", 0.75), ("right", 0.25)),
    }
    answer |= {name: changes.pop(name) for name in answer.keys() & changes.keys()}
    return Turn(answer=Answer(**answer), **(values | changes))


def show(seed: int = 3, text: str = "go") -> Show:
    last = np.full((6, 8, 3), 200, np.uint8)
    trained = Panel("trained", True, (turn(0, text), turn(50, text, reward=2.0)), last)
    base = Panel("base", False, (turn(0, text, value=None, action=None, legal=False, actions=()),), last)
    return Show(seed, (trained, base))


def data_of(html: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return json.loads(text)


def test_the_page_holds_every_step_of_every_policy_once() -> None:
    data = data_of(page("World", [show(3), show(4)]))
    assert [episode["seed"] for episode in data["episodes"]] == [3, 4]
    trained, base = data["episodes"][0]["panels"]
    assert (trained["outcome"], base["outcome"]) == (
        "success after 2 steps, return 1",
        "no success after 1 step, return -1",
    )
    assert [step["total"] for step in trained["turns"]] == [-1.0, 1.0]
    assert trained["turns"][0]["tokens"] == [["go", 0.25], ["}", 1.0]]
    assert trained["turns"][0]["actions"] == [["left", 0.75], ["right", 0.25]]
    assert (base["turns"][0]["value"], base["turns"][0]["legal"]) == (None, False)
    assert len(data["pictures"]) == 3  # each picture once, whoever saw it
    assert all(picture.startswith("data:image/png;base64,") for picture in data["pictures"])
    assert data["prompts"] == ["prompt go"]


def test_the_page_needs_nothing_else_and_may_load_nothing() -> None:
    html = page("World", [show()])
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|@import|url\(|https?://(?!www\.w3\.org/2000/svg)""", html)
    assert "default-src 'none'; img-src data:" in html
    assert "innerHTML" not in html


def test_what_a_model_writes_is_data_and_never_markup() -> None:
    html = page("<b>&", [show(text=HOSTILE)])
    assert html.count("</script>") == 2
    assert "alert(1)</script>" not in html
    assert "<title>&lt;b&gt;&amp;</title>" in html
    assert data_of(html)["episodes"][0]["panels"][0]["turns"][0]["tokens"][0][0] == HOSTILE
    assert data_of(page("World", [show(text="@DATA@ @SCRIPT@ @TITLE@")]))["prompts"] == [
        "prompt @DATA@ @SCRIPT@ @TITLE@"
    ]


@pytest.mark.parametrize("panels", [1, 2])
def test_no_text_of_the_gif_leaves_its_panel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, panels: int) -> None:
    drawn: list[tuple[float, float, str]] = []

    def text(self: ImageDraw.ImageDraw, place: tuple[float, float], words: str, _color: str, font: Any) -> None:
        drawn.extend((place[0], place[0] + font.getlength(line), line) for line in words.split("\n"))

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    name = "trained: vldac-miniworld-onerooms6fast-v0-qwen2_vl-3"
    wide = replace(show(2147483647, "W" * 200).panels[0], label=name)
    title = "MiniWorld-OneRoomS6Fast-v0, Qwen/Qwen2-VL-7B-Instruct (qwen2_vl)"
    animate(tmp_path / "episodes.gif", title, [Show(2147483647, (wide, replace(wide, label="base"))[:panels])])
    width = 320 * panels
    headings = [line for *_, line in drawn if line.endswith(", seed 2147483647")]
    assert len(headings) == 3  # the seed tells episodes apart
    assert all(line.startswith("MiniWorld") for line in headings)
    labels = [line for *_, line in drawn if line.startswith("trained: vldac-min")]
    assert all(line.endswith("vl-3") for line in labels)
    assert len(labels) == 3
    for left, right, line in drawn:
        assert right <= (width if line in headings else (left // 320 + 1) * 320), line


def test_the_gif_has_a_picture_a_step_and_one_for_each_end(tmp_path: Path) -> None:
    alone = Show(5, show().panels[:1])
    animate(tmp_path / "episodes.gif", "World", [show(text=HOSTILE), alone])
    with Image.open(tmp_path / "episodes.gif") as gif:
        frames = [(frame.info["duration"], np.asarray(frame.convert("RGB"))) for frame in ImageSequence.Iterator(gif)]
    assert [duration for duration, _ in frames] == [900, 900, 2500] * 2
    assert {picture.shape for _, picture in frames} == {(400, 640, 3)}
    assert [picture[100, 100, 0] // 40 for _, picture in frames] == [0, 1, 5] * 2  # what the first policy saw


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_executable(), args=["--no-sandbox"])
        yield browser.new_page(color_scheme="dark")
        browser.close()


def test_the_page_plays_steps_and_scrubs(browser_page: Page, tmp_path: Path) -> None:
    errors: list[str] = []
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    browser_page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    (tmp_path / "index.html").write_text(page("World", [show(3, HOSTILE.replace("\x00", "")), show(4, "stay")]))
    browser_page.clock.install(time=0)
    browser_page.goto(f"file://{tmp_path}/index.html")
    browser_page.clock.pause_at(3_600_000)  # from here on it moves only as it is told
    first = browser_page.locator("section").first

    def said() -> str:
        return first.locator(".said").inner_text()

    assert said() == ""
    browser_page.locator("#play").click()
    browser_page.clock.run_for(100)
    assert said().startswith("</script><script>alert(1)")  # one token, as text
    assert not said().endswith("}")
    assert first.locator("dd").all_inner_texts()[:2] == ["\u00a0", "\u00a0"]  # action and reward follow the last token
    browser_page.clock.run_for(300)
    assert said().endswith("}")
    assert first.locator("dd").all_inner_texts() == ["left", "-1", "-1", "0.5"]
    points = [line.get_attribute("points") or "" for line in first.locator("polyline").all()]
    assert [len(line.split()) for line in points] == [2, 1]  # the return from 0 on, and the first value
    assert first.locator(".bar.taken").inner_text().split() == ["left", "0.75"]
    browser_page.clock.run_for(10_000)
    assert first.locator(".good").inner_text() == "success after 2 steps, return 1"
    assert browser_page.locator("section").nth(1).locator(".bad").first.inner_text().startswith("no success after 1")
    assert (browser_page.locator("#where").inner_text(), browser_page.locator("#play").inner_text()) == ("end", "Play")

    browser_page.locator("nav button").nth(1).click()
    browser_page.locator("#on").click()
    browser_page.keyboard.press("ArrowRight")
    assert browser_page.locator("#where").inner_text() == "end"
    browser_page.keyboard.press("ArrowLeft")
    assert (said(), browser_page.locator("#where").inner_text()) == ("stay}", "step 2 of 2")
    browser_page.locator("#scrub").fill("1")
    assert said() == "stay"
    assert browser_page.locator("#prompt").text_content() == "prompt stay"
    for width in (390, 1280):
        browser_page.set_viewport_size({"width": width, "height": 900})
        assert browser_page.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []
