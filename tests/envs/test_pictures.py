"""Pictures-v0 is solved here from its pixels alone, and cannot be solved without them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.base import EVALUATION_SEEDS
from envs.pictures import Pictures
from envs.pictures.questions import KINDS, MOST_OPTIONS, WORDS, Question, ask
from envs.pictures.scenes import COLORS, INKS, SHAPES, Scene, Writing, draw
from envs.registry import make

CHANCE = {"count": 1 / 4, "color": 1 / 4, "relation": 1 / 2, "reading": 1 / 4, "order": 1 / 3}


def unwrapped(**options: Any) -> Pictures:
    return Pictures(**{"prompt_style": "terse", **options})


def components(picture: np.ndarray) -> list[tuple[str, str, float, float]]:
    """Name, color and center of everything in a picture, from its pixels."""
    found = []
    for color, rgb in COLORS.items():
        open_pixels = {
            (int(x), int(y))
            for y, x in np.argwhere(np.linalg.norm(picture.astype(float) - rgb, axis=-1) < 50)
        }  # fmt: skip
        while open_pixels:
            stack, pixels = [open_pixels.pop()], []
            while stack:
                x, y = stack.pop()
                pixels.append((x, y))
                for near in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)):
                    if near in open_pixels:
                        open_pixels.remove(near)
                        stack.append(near)
            xs, ys = np.transpose(pixels)
            filled = len(pixels) / ((np.ptp(xs) + 1) * (np.ptp(ys) + 1))
            if len(pixels) > 20:
                name = "square" if filled > 0.92 else "circle" if filled > 0.65 else "triangle"
                found.append((name, color, float(xs.mean()), float(ys.mean())))
    return found


def solve(prompt: str, picture: np.ndarray) -> str:
    """The answer to a terse prompt, from pixels."""
    seen = components(picture)
    question = re.split(r"[?.]? actions: ", prompt)[0]
    if match := re.fullmatch(r"how many (\w+) (\w+)s", question):
        return str(sum((color, name) == match.groups() for name, color, _, _ in seen))
    if match := re.fullmatch(r"color of the (\w+)", question):
        return next(color for name, color, _, _ in seen if name == match[1])
    if match := re.fullmatch(r"where is the (\w+) from the (\w+)", question):
        (x, y), (other_x, other_y) = (next(s[2:] for s in seen if s[0] == name) for name in match.groups())
        if "left" in prompt:
            assert abs(x - other_x) > 0.4 * picture.shape[1]
            return "left" if x < other_x else "right"
        assert abs(y - other_y) > 0.4 * picture.shape[0]
        return "above" if y < other_y else "below"
    match = re.fullmatch(r"left to right. which shape came (first|last)", question)
    assert match
    assert len(seen) == 3
    return sorted(seen, key=lambda shape: shape[2])[0 if match[1] == "first" else -1][0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "reading"])
@pytest.mark.parametrize("size", [(160, 120), (96, 96)])
def test_the_right_option_is_what_the_picture_shows(kind: str, size: tuple[int, int]) -> None:
    env = unwrapped(width=size[0], height=size[1], kinds=kind)
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        answer = solve(observation["prompt"], observation["frames"][0])
        assert answer == env.expert_action()
        assert answer in env.describe()
        _, reward, terminated, truncated, info = env.step(env.parse_action(answer))
        assert (reward, terminated, truncated) == (1.0, True, False)
        assert info == {"invalid": False, "success": True, "task": kind}


def test_colors_can_be_told_apart() -> None:
    rgbs = [np.array(rgb) for rgb in [*COLORS.values(), (255, 255, 255)]]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(rgbs) for b in rgbs[:i]]
    assert min(apart) > 100


@pytest.mark.parametrize("size", [(64, 48), (448, 336)])
def test_words_and_numbers_are_whole(size: tuple[int, int]) -> None:
    for text in [*WORDS, "10", "88"]:
        for x, y, scale in [(0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.8)]:
            picture = draw(Scene(writing=Writing(text, "black", x, y, scale)), *size)
            assert picture[0].min() == picture[-1].min() == picture[:, 0].min() == picture[:, -1].min() == 255
            assert (picture.min(-1) < 128).any(0).sum() > size[0] / 8


def test_words_and_numbers_look_different() -> None:
    texts = [*WORDS, *map(str, range(10, 100))]
    dark = np.stack(
        [draw(Scene(writing=Writing(text, "black", 0.5, 0.5, 1.0)), 64, 48).min(-1) < 128 for text in texts]
    )
    flat = dark.reshape(len(texts), -1).astype(float)
    differing = flat @ (1 - flat).T + (1 - flat) @ flat.T
    assert (differing + 1000 * np.eye(len(texts))).min() > 8
    assert len(set(WORDS)) == len(WORDS)
    assert not set(WORDS) & {*COLORS, *SHAPES}


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_picture_it_is_a_guess(kind: str) -> None:
    """A guesser that has learned how often each option and each place wins, for each text, does not beat chance."""
    rng, count = np.random.default_rng(0), 2000
    questions = [ask(rng, kind) for _ in range(2 * count)]
    chance = CHANCE[kind]
    wins: dict[str, list[bool]] = defaultdict(list)
    for question in questions[:count]:
        assert len(question.options) == len(set(question.options)) == round(1 / chance) <= MOST_OPTIONS
        for place, option in enumerate(question.options):
            for clue in (option, str(place), f"{place} {option}", f"{question.terse} {option}"):
                wins[clue].append(option == question.answer)
    rates = {clue: (sum(won) + 20 * chance) / (len(won) + 20) for clue, won in wins.items()}

    def guess(question: Question) -> str:
        def promise(place: int) -> float:
            option = question.options[place]
            clues = (option, str(place), f"{place} {option}", f"{question.terse} {option}")
            return float(np.prod([rates.get(clue, chance) for clue in clues]))

        return question.options[max(range(len(question.options)), key=promise)]

    share = np.mean([guess(question) == question.answer for question in questions[count:]])
    assert abs(share - chance) < 4 * np.sqrt(chance * (1 - chance) / count)
    first = np.mean([question.options[0] == question.answer for question in questions])
    assert abs(first - chance) < 4 * np.sqrt(chance * (1 - chance) / len(questions))


def test_kinds_are_drawn_evenly_and_can_be_chosen() -> None:
    env = unwrapped()
    env.reset(seed=0)
    drawn = [env.step(0)[4]["task"] for _ in range(500) if env.reset()]
    assert all(abs(drawn.count(kind) - 100) < 40 for kind in KINDS)
    env = unwrapped(kinds="order, count")
    assert {env.step(0)[4]["task"] for _ in range(30) if env.reset()} == {"order", "count"}
    with pytest.raises(ValueError, match=r"there is no 'counts'.*of count, color, relation, reading, order") as error:
        unwrapped(kinds="counts")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prompt_style", ["full", "terse"])
def test_rewards_and_what_names_an_option(prompt_style: str) -> None:
    env = unwrapped(prompt_style=prompt_style, invalid_reward=-0.5)
    for seed in range(60):
        env.reset(seed=seed)
        right = env.action_names.index(env.expert_action())
        for index, name in enumerate(env.action_names):
            assert env.parse_action(name) == env.parse_action(f" {name.upper()}\n") == index
            _, reward, terminated, truncated, info = env.step(index)
            assert (reward, info["success"], info["invalid"]) == (float(index == right), index == right, False)
            assert (terminated, truncated) == (True, False)
            assert env.parse_action("ABCD"[index]) == (index if prompt_style == "full" else None)
        assert env.parse_action("E") is None
        assert env.parse_action("") is None
        assert env.parse_action(" ".join(env.action_names[:2])) is None
        beyond = list(range(len(env.action_names), MOST_OPTIONS))
        for action in [None, *beyond]:
            assert env.step(action)[1:] == (
                -0.5,
                True,
                False,
                {"invalid": True, "success": False, "task": env.question.kind},
            )
        with pytest.raises(ValueError, match="not in Discrete"):
            env.step(MOST_OPTIONS)
    assert unwrapped().invalid_reward == 0.0


def test_prompts() -> None:
    for kind in KINDS:
        full, terse = unwrapped(kinds=kind, prompt_style="full"), unwrapped(kinds=kind)
        for seed in range(20):
            long, short = full.reset(seed=seed)[0]["prompt"], terse.reset(seed=seed)[0]["prompt"]
            assert full.action_names == terse.action_names
            assert long.isascii()
            assert short.isascii()
            assert short.endswith(f" actions: {', '.join(terse.action_names)}.")
            assert len(short) <= 110
            assert "\n" not in short
            for letter, option in zip("ABCD", full.action_names, strict=False):
                assert f"\n{letter}. {option}\n" in long
            assert list(json.loads(re.findall(r"\{.*\}", long)[0])) == ["thoughts", "action"]


def test_descriptions_are_true_short_sentences() -> None:
    patterns = {
        "count": r"(1 \w+ (circle|square|triangle)|[234] \w+ (circle|square|triangle)s)",
        "color": rf"(circle|square|triangle) is ({'|'.join(COLORS)})",
        "relation": r"(circle|square|triangle) is (left|right|above|below)",
        "reading": rf"(word ({'|'.join(WORDS)})|number [1-9]\d)",
        "order": r"\w+ then \w+ then \w+",
    }
    for kind, pattern in patterns.items():
        for seed in range(50):
            question = ask(np.random.default_rng(seed), kind)
            assert re.fullmatch(pattern, question.description)
            assert question.answer in question.description


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kinds", ["all", *KINDS])
def test_follows_gymnasium(kinds: str) -> None:
    env = make("Pictures-v0", width=32, height=24, options={"kinds": kinds})
    check_env(env.unwrapped, skip_render_check=True)
    check_env(env, skip_render_check=True)


def test_the_seed_decides_everything_whatever_ran_before() -> None:
    def episode(env: gym.Env, seed: int) -> tuple[Any, ...]:
        observation, _ = env.reset(seed=seed)
        asked = cast(Pictures, env.unwrapped)
        return observation["frames"].tobytes(), observation["prompt"], asked.expert_action(), env.step(1)[1:]

    first, other = (make("Pictures-v0", width=64, height=48, prompt="terse") for _ in range(2))
    seeds, untouched = [0, 5, EVALUATION_SEEDS[7]], np.random.get_state()[1]  # type: ignore[index]  # a tuple by default
    episodes = [episode(first, seed) for seed in seeds]
    other.reset(seed=99)
    assert np.array_equal(np.random.get_state()[1], untouched)  # type: ignore[index]  # the global generator's state
    assert [episode(other, seed) for seed in reversed(seeds)] == episodes[::-1]
    assert len({pixels for pixels, *_ in episodes}) == len(seeds)
    larger = make("Pictures-v0", width=448, height=336, prompt="terse")
    assert [episode(larger, seed)[1:] for seed in seeds] == [episode[1:] for episode in episodes]


@pytest.mark.parametrize("size", [(1, 1), (16, 8), (24, 24), (448, 448), (640, 20)])
def test_every_size_can_be_drawn(size: tuple[int, int]) -> None:
    for kind in KINDS:
        env = unwrapped(width=size[0], height=size[1], kinds=kind)
        observation, _ = env.reset(seed=1)
        assert observation["frames"].shape == (1, size[1], size[0], 3)
        assert observation in env.observation_space


def test_a_frame_is_the_callers_own() -> None:
    env = unwrapped()
    observation, _ = env.reset(seed=0)
    before = env.render()
    observation["frames"][:] = 0
    env.render()[:] = 0
    assert np.array_equal(env.step(0)[0]["frames"][0], before)


def test_nothing_is_asked_before_the_first_reset() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="call reset first"):
        _ = unwrapped().action_names


def test_inks_can_be_read_on_white() -> None:
    for ink in INKS:
        red, green, blue = (channel / 255 for channel in COLORS[ink])
        assert 1.05 / (0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 + 0.05) > 3  # WCAG's large text
