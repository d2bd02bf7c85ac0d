from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from envs.gym_cards.number_line import NumberLine
from vldac.evaluation import gallery
from vldac.evaluation.gallery import Show, Turn, page, play

FRAME = np.zeros((8, 8, 3), np.uint8)


def show(turns: int, reply: str = "x", prompt: str = "p") -> Show:
    played = [Turn(FRAME, f"{reply} {n}", legal=n > 0, reward=-1.0 if n == 0 else 0.5) for n in range(turns)]
    return Show("World-v0", "About it.", prompt, played, FRAME, success=True)


def test_the_first_answer_is_bad_and_the_experts_follow_to_the_goal() -> None:
    played = play("GymCards-NumberLine-v0", 40, 40)
    first, *rest = played.turns
    assert (first.legal, first.reward, first.reply) == (False, NumberLine.default_invalid_reward, gallery._BAD_ANSWER)
    assert played.success
    assert all(turn.legal for turn in rest)
    assert rest[-1].reward == 1.0
    assert [json.loads(turn.reply)["action"] for turn in rest].count("+") in (0, len(rest))
    assert not np.array_equal(played.last_frame, rest[-1].frame)


def test_an_environment_without_an_expert_is_named() -> None:
    with pytest.raises(RuntimeError, match="MiniWorld-ThreeRooms-v0: its expert"):
        play("MiniWorld-ThreeRooms-v0", 16, 16)


def test_what_an_environment_says_cannot_change_the_page() -> None:
    html = page([show(2, reply="<script>alert(1)</script>", prompt="</pre><b>&")])
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 0" in html
    assert "&lt;/pre&gt;&lt;b&gt;&amp;" in html


def test_a_long_episode_keeps_its_ends_and_says_what_is_left_out() -> None:
    html = page([show(30)])
    steps = [int(n) for n in re.findall(r"<b>step (\d+)</b>", html)]
    assert steps == [1, 2, 3, 4, 27, 28, 29, 30]
    assert "22 more steps" in html
    assert "success after 30 steps, return 13.5" in html


def test_the_command_writes_a_page_that_needs_nothing_else_and_a_picture(tmp_path: Path) -> None:
    environments = ["GymCards-NumberLine-v0", "GymCards-EZPoints-v0"]
    assert gallery.main(["--out", str(tmp_path), "--envs", *environments]) == 0
    html = (tmp_path / "index.html").read_text()
    assert all(f"<h2>{env}</h2>" in html for env in environments)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", html)
    assert "Reach 12 with two cards" in html
    assert gallery._BAD_ANSWER in unescape(html)
    with Image.open(tmp_path / "gallery.png") as image:
        assert image.width > 500
