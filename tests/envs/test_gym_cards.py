from __future__ import annotations

import numpy as np
import pytest

from envs.gym_cards import NumberLine


def fresh(current: int, target: int, **options: float) -> NumberLine:
    env = NumberLine(width=64, height=64, prompt_style="terse", **options)
    env.reset(seed=0)
    env.current, env.target = current, target
    return env


# Written out: (current, target, action, current afterwards, reward, terminated).
RULES = [
    (1, 4, 1, 2, 0.0, False),
    (1, 4, 0, 0, -1.0, False),
    (3, 4, 1, 4, 1.0, True),
    (5, 4, 0, 4, 1.0, True),
    (5, 4, 1, 5, -1.0, False),  # clipped, so the distance stays
    (0, 2, 0, 0, -1.0, False),
    (4, 0, 0, 3, 0.0, False),
    (4, 0, 1, 5, -1.0, False),
    (2, 3, None, 2, -1.0, False),
]


@pytest.mark.parametrize(("current", "target", "action", "after", "reward", "terminated"), RULES)
def test_number_line_step(
    current: int, target: int, action: int | None, after: int, reward: float, terminated: bool
) -> None:
    env = fresh(current, target)
    _, got, ended, truncated, info = env.step(action)
    assert (env.current, got, ended, truncated) == (after, reward, terminated, False)
    assert info == ({"invalid": action is None, "success": True} if terminated else {"invalid": action is None})


def test_number_line_is_truncated_after_ten_steps() -> None:
    env = fresh(0, 3)
    for number in range(1, 11):
        _, _, terminated, truncated, info = env.step(0)
        assert (terminated, truncated) == (False, number == 10)
    assert info == {"invalid": False, "success": False}


def test_reaching_the_target_at_the_limit_is_no_truncation() -> None:
    env = fresh(0, 1)
    for _ in range(9):
        env.step(0)
    _, reward, terminated, truncated, info = env.step(1)
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)


def test_number_line_starts() -> None:
    env = NumberLine(width=64, height=64)
    pairs = []
    for seed in range(3000):
        env.reset(seed=seed)
        pairs.append((env.current, env.target))
    assert all(a != b for a, b in pairs)
    counts = np.zeros((6, 6), int)
    np.add.at(counts, tuple(np.transpose(pairs)), 1)
    # Start and target are uniform and an equal target moves to (target + 1) % 5: twice as often, 5 to 1.
    moved = {(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (5, 1)}
    expected = np.array([[0 if a == b else 2 if (a, b) in moved else 1 for b in range(6)] for a in range(6)])
    assert expected.sum() == 36
    assert np.all(abs(counts / 3000 * 36 - expected) < 0.5)


@pytest.mark.parametrize("text", ["+", " + ", "-\n"])
def test_action_names(text: str) -> None:
    assert fresh(0, 1).parse_action(text) == (1 if "+" in text else 0)


@pytest.mark.parametrize("text", ["", "++", "+1", "plus", "0", "1", "− "])
def test_what_names_no_action(text: str) -> None:
    assert fresh(0, 1).parse_action(text) is None


def test_invalid_reward_can_be_set() -> None:
    assert fresh(0, 3, invalid_reward=-0.25).step(None)[1] == -0.25


@pytest.mark.parametrize(("current", "target", "relation"), [(1, 4, "higher"), (5, 0, "lower"), (2, 2, "equal")])
def test_description(current: int, target: int, relation: str) -> None:
    assert fresh(current, target).describe() == f"target {target} current {current} target is {relation}"


def test_expert_always_reaches_the_target() -> None:
    env = NumberLine(width=64, height=64)
    for seed in range(30):
        env.reset(seed=seed)
        moves = abs(env.target - env.current)
        for number in range(1, moves + 1):
            text = env.expert_action()
            assert text is not None
            _, reward, terminated, _, _ = env.step(env.parse_action(text))
            assert (reward, terminated) == ((1.0, True) if number == moves else (0.0, False))


def test_every_picture_differs_and_fits() -> None:
    pictures = {}
    for width, height in [(64, 64), (300, 300), (96, 48), (16, 16)]:
        env = NumberLine(width=width, height=height)
        env.reset(seed=0)
        for env.target in range(6):
            for env.current in range(6):
                picture = env.render()
                assert picture.shape == (height, width, 3)
                if width >= 64:
                    assert picture[:, 0].min() == 255 == picture[:, -1].min()  # nothing touches the border
                    assert picture[0].min() == 255 == picture[-1].min()
                    pictures[width, height, env.target, env.current] = picture.tobytes()
    assert len(set(pictures.values())) == 3 * 36


def test_a_frame_is_the_callers_own() -> None:
    env = fresh(1, 4)
    picture = env.render()
    picture[:] = 0
    assert env.render().max() == 255


def test_unknown_native_action_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in Discrete"):
        fresh(1, 4).step(2)
