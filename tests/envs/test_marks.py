"""What environments say is in a frame is there, in its pixels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.base import Env, Mark
from envs.gym_cards.drawing import Card
from envs.pictures.scenes import COLORS
from envs.registry import make


def changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of where two pictures differ, as shares of their size."""
    rows, columns = (before != after).any(axis=-1).nonzero()
    height, width = before.shape[:2]
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


def within(mark: Mark, box: tuple[float, float, float, float]) -> bool:
    return box[0] <= mark.x <= box[2] and box[1] <= mark.y <= box[3]


def env_of(env_id: str, **options: Any) -> Any:
    return cast(Env, make(env_id, prompt="terse", **options).unwrapped)


def test_shapes_have_their_color_at_their_marks() -> None:
    pictures = env_of("Pictures-v0", width=128, height=96, options={"kinds": "count,color,relation,order"})
    for seed in range(20):
        pictures.reset(seed=seed)
        marks = pictures.marks()
        assert len(marks) == len(pictures.question.scene.shapes)
        for mark in marks:
            color, _ = mark.name.split()
            pixel = pictures.render()[int(mark.y * 96), int(mark.x * 128)]
            assert tuple(pixel) == COLORS[color], (seed, mark)


def test_letters_are_marked_where_they_are_written() -> None:
    pictures = env_of("Pictures-v0", width=256, height=192, options={"kinds": "reading"})
    for seed in range(10):
        pictures.reset(seed=seed)
        ink = pictures.render().min(axis=-1) < 200
        rows, columns = ink.nonzero()
        marks = pictures.marks()
        assert "".join(mark.name for mark in marks) == pictures.question.answer
        for mark in marks:
            nearest = np.abs(columns + 0.5 - 256 * mark.x).min()
            assert nearest < 12, (pictures.question.answer, mark)  # an "o" has its ink around its middle
            assert rows.min() < 192 * mark.y < rows.max() + 1
        # The first and the last letter are about half a letter away from the ends of the ink.
        letter = (columns.max() + 1 - columns.min()) / len(marks)
        ends = [256 * marks[0].x - columns.min(), columns.max() + 1 - 256 * marks[-1].x]
        assert all(0 < end < 0.75 * letter + 4 for end in ends)


def test_digits_of_the_number_line_are_marked_where_another_digit_would_change_the_picture() -> None:
    line = env_of("GymCards-NumberLine-v0", width=128, height=128)
    line.reset(seed=0)
    line.target, line.current = 1, 2
    before, (target, current) = line.render(), line.marks()
    assert (target.name, current.name) == ("1", "2")
    line.target = 5
    assert within(target, changed(before, line.render()))
    line.target, line.current = 1, 4
    assert within(current, changed(before, line.render()))


@pytest.mark.parametrize("env_id", ["GymCards-EZPoints-v0", "GymCards-Points24-v0"])
def test_faces_of_cards_and_symbols_of_the_formula_are_marked_where_they_are_drawn(env_id: str) -> None:
    game = env_of(env_id, width=200, height=200)
    game.reset(seed=0)
    for index, card in enumerate(game.cards):
        before, mark = game.render(), game.marks()[index]
        assert mark.name == card.face
        dealt = game.cards
        game.cards = (*dealt[:index], Card(7 if card.face != "7" else 9, card.suit), *dealt[index + 1 :])
        assert within(mark, changed(before, game.render()))
        game.cards = dealt
    empty = game.render()
    game.formula = ["10"]
    assert within(game.marks()[-1], changed(empty, game.render()))
    one = game.render()
    game.formula = ["10", " ", "+"]
    assert [mark.name for mark in game.marks()[-2:]] == ["10", "+"]
    assert within(game.marks()[-1], changed(one, game.render()))


def test_cards_of_blackjack_are_marked_but_for_the_one_face_down() -> None:
    game = env_of("GymCards-Blackjack-v0", width=200, height=200)
    game.reset(seed=0)
    assert [mark.name for mark in game.marks()] == [card.face for card in (game.dealer[0], *game.player)]
    before, mark = game.render(), game.marks()[-1]
    last = game.player[-1]
    game.player = (*game.player[:-1], Card(7 if last.face != "7" else 9, last.suit))
    assert within(mark, changed(before, game.render()))


def test_the_box_of_a_room_is_marked_on_its_pixels_and_only_in_sight() -> None:
    room = env_of("MiniWorld-OneRoomS6Fast-v0", width=64, height=48)
    seen = set()
    try:
        room.reset(seed=0)
        for _ in range(40):
            marks, described = room.marks(), room.describe()
            assert bool(marks) == ("not visible" not in described)
            for mark in marks:
                assert mark.name == "red box"
                around = room.render()[:, int(mark.x * 64)].astype(int)  # the box is as high as wide at least
                assert (around[:, 0] - around[:, 1:].max(axis=1)).max() > 60
                middle = described.endswith("ahead")
                assert not (mark.x < 0.3 and described.endswith("right"))
                assert not (mark.x > 0.7 and described.endswith("left"))
                seen.add("ahead" if middle else "side")
            _, _, terminated, truncated, _ = room.step(0)
            if terminated or truncated:
                room.reset()
    finally:
        room.close()
    assert seen == {"ahead", "side"}


def test_an_environment_that_says_nothing_has_no_marks() -> None:
    shop = env_of("WebShop-Small-v0", width=64, height=64)
    shop.reset(seed=0)
    assert shop.marks() == ()
    shop.close()
