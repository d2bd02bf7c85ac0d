"""`vldac play` in a real browser: Debian's Chromium drives the page that the command serves."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from envs.base import EVALUATION_SEEDS
from envs.registry import make
from tests.integration.browser import opened, served
from tests.integration.service_client import clean_environment
from vldac.evaluation.watch import load_player

REPOSITORY = Path(__file__).parents[2]
WORLD = "GymCards-NumberLine-v0"

#: What reaches beyond the card that it is on.
BEYOND = """[...document.querySelectorAll("section :is(button, input, textarea, dl, img, .said)")].filter(
    node => node.getBoundingClientRect().right > node.closest("section").getBoundingClientRect().right - 8
).map(node => node.outerHTML)"""

pytestmark = pytest.mark.slow


@pytest.fixture
def page(tiny_policy: Path, tiny_base: Path, tmp_path: Path) -> Iterator[Page]:
    """The page of a project with one policy."""
    shutil.copytree(tiny_policy, tmp_path / "models/policy")
    shutil.copytree(tiny_base, tmp_path / "models/base")
    (tmp_path / "extensions").mkdir()
    env = {**clean_environment(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with served(tmp_path, "models/policy", tmp_path / "log", env) as address, opened(address) as page:
        yield page


def test_a_person_and_a_model_play(page: Page, tiny_policy: Path, tiny_base: Path, tmp_path: Path) -> None:
    status, steps = page.get_by_role("status"), page.locator("#steps li")
    expect(status).to_have_text("Your move, or the model's.")
    assert page.get_by_label("Environment").input_value() == WORLD
    assert page.locator("#model").input_value() == "models/policy"

    page.get_by_label("Seed").fill(str(EVALUATION_SEEDS[2]))
    page.get_by_role("button", name="New episode").click()
    expect(page.locator("#progress")).to_contain_text(f"seed {EVALUATION_SEEDS[2]} · step 0")
    env = make(WORLD, width=32, height=32, prompt="terse")
    wanted = load_player(str(tiny_base), tiny_policy, "mine").play(env, EVALUATION_SEEDS[2])

    page.get_by_role("button", name="Only ask").click()
    expect(page.locator("#said")).to_have_text(wanted.steps[0].decision.text)
    assert steps.count() == 0
    page.get_by_role("button", name="Do what it says").click()
    expect(steps).to_have_count(1)
    if len(wanted.steps) > 1:
        page.get_by_role("button", name="Whole episode").click()
    expect(page.locator("#ended")).to_be_visible()
    expect(steps).to_have_count(len(wanted.steps))
    assert page.locator("#ended").inner_text().startswith("success" if wanted.success else "no success")
    assert page.get_by_role("button", name="Ask and act").is_disabled()

    page.locator("body").press("n")
    expect(status).to_have_text("Your move, or the model's.")
    page.get_by_label("Or type an action").fill("<b>nothing</b>")
    page.keyboard.press("Enter")
    expect(steps).to_have_count(1)
    assert steps.inner_text().split("\n") == ["1", "you", "<b>nothing</b>", "-1"]
    page.get_by_label("What it is asked").fill("which way? actions: -, +.")
    page.get_by_role("button", name="Only ask").click()
    expect(page.locator("#said-title")).to_have_text("What it answered at step 2")
    page.get_by_role("button", name="Only ask").press("Enter")  # a key's focus is kept
    expect(page.get_by_role("button", name="Only ask")).to_be_focused()
    page.get_by_role("button", name="Restore").click()
    assert page.locator("#prompt").input_value().startswith("number line")

    page.get_by_label("Choose a picture").set_input_files(REPOSITORY / "docs/learning_curve.png")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#reply")).to_be_visible()
    (tmp_path / "no.png").write_bytes(b"no picture")
    page.get_by_label("Choose a picture").set_input_files(tmp_path / "no.png")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(status).to_contain_text("the picture cannot be read as a picture")
    expect(status).to_have_class("bad")


def test_a_persons_question_is_asked_until_the_environment_asks_something_else(page: Page) -> None:
    status, prompt, put_back = page.get_by_role("status"), page.locator("#prompt"), page.locator("#put-back")
    expect(status).to_have_text("Your move, or the model's.")
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request.post_data_json) if "/answer" in request.url else None)
    prompt.fill("which way? actions: -, +.")
    page.get_by_role("button", name="Whole episode").click()
    expect(page.locator("#ended")).to_be_visible()
    assert asked == [{"prompt": "which way? actions: -, +."}] * page.locator("#steps li").count()
    page.locator("body").press("n")
    expect(status).to_have_text("Your move, or the model's.")
    expect(prompt).to_have_value("which way? actions: -, +.")
    expect(put_back).to_be_hidden()

    page.locator("#environment").select_option("WebShop-Small-v0")
    expect(put_back).to_be_visible()
    expect(prompt).to_have_value(re.compile("search page"))
    prompt.fill("what is on the page?")
    expect(put_back).to_be_hidden()
    page.locator("#actions button").first.click()  # searches, after which the page is another one
    expect(page.locator("#steps li")).to_have_count(1)
    expect(put_back).to_be_visible()
    expect(prompt).not_to_have_value("what is on the page?")
    page.get_by_label("Or type an action").fill("nothing")
    page.keyboard.press("Enter")
    expect(page.locator("#steps li")).to_have_count(2)
    expect(put_back).to_be_hidden()


def test_a_person_plays_alone_at_any_width(page: Page) -> None:
    status = page.get_by_role("status")
    expect(status).to_have_text("Your move, or the model's.")
    page.locator("#model").select_option(label="nobody: you play alone")
    expect(status).to_have_text("Your move.")
    assert page.get_by_role("button", name="Whole episode").is_hidden()
    page.locator("#environment").select_option("GymCards-Blackjack-v0")
    expect(page.locator("#world-title")).to_have_text("GymCards-Blackjack-v0")
    expect(status).to_have_text("Your move.")
    page.locator("body").press("1")
    expect(page.locator("#steps li")).to_have_count(1)
    page.locator("#model").select_option("models/policy")
    expect(status).to_have_text("Your move, or the model's.")
    for width in (360, 390, 820, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(BEYOND) == []
        shown = page.locator("#frame").bounding_box()
        assert shown is not None
        assert 240 <= shown["width"] <= width
