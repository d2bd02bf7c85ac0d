from __future__ import annotations

import random
import re
import string
from collections import Counter
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.stats import chisquare

from envs.base import EVALUATION_SEEDS, SimulatorError
from envs.registry import make
from envs.vector import VectorEnv, evaluation_seeds
from envs.webshop import WebShop
from envs.webshop import shop as shop_module
from envs.webshop.goals import split
from envs.webshop.shop import State

SIZE: dict[str, Any] = {"width": 64, "height": 64}


def environment(catalogue: str = "small", **options: Any) -> WebShop:
    return WebShop(**{**SIZE, "catalogue": catalogue, "pictures": "drawn", **options})


def act(env: WebShop, text: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    action = env.parse_action(text)
    assert action is not None, (text, env.action_names)
    return env.step(action)


def reset_to(env: WebShop, wish: str, size: str, seed: int = 0) -> Any:
    """Begins an episode of the small catalogue with a goal such as "red clay mug"."""
    env.reset(seed=seed)
    number = next(
        i for i, goal in enumerate(env.shop.goals) if goal.instruction.startswith(f"{wish} with size: {size}")
    )
    env._begin(number)
    return env.goal


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("catalogue", ["small", "default"])
def test_follows_gymnasium(catalogue: str) -> None:
    check_env(environment(catalogue), skip_render_check=True)


def test_an_episode() -> None:
    env = environment()
    goal = reset_to(env, "red clay mug", "large")
    assert goal.asin == "B01"
    assert act(env, "search[red mug]")[1:] == (0.0, False, False, {"invalid": False})
    assert act(env, "click[B01]")[1:] == (0.0, False, False, {"invalid": False})
    assert act(env, "CLICK[ Large ]")[1:] == (0.0, False, False, {"invalid": False})
    assert act(env, "click[buy now]")[1:] == (1.0, True, False, {"invalid": False, "success": True, "score": 1.0})


@pytest.mark.parametrize(
    ("asin", "size", "score"),
    [
        ("b01", "small", 3 / 4),  # the option is wrong
        ("b01", None, 3 / 4),  # or missing
        ("b04", "large", 2 / 4),  # blue, and dearer than the limit of at most $50
        ("b03", "large", 2 / 4),  # of steel, and too dear
        ("b02", "large", 2 / 4),  # blue and of steel
        ("b06", "large", 0.0),  # a lamp without a noun in common
    ],
)
def test_near_misses(asin: str, size: str | None, score: float) -> None:
    env = environment()
    reset_to(env, "red clay mug", "large")
    env.state = State("item", "x", 1, asin.upper())
    if size is not None:
        act(env, f"click[{size}]")
    _, reward, terminated, _, info = act(env, "click[buy now]")
    assert (reward, terminated) == (score, True)
    assert info == {"invalid": False, "success": False, "score": score}


@pytest.mark.parametrize("answer", [None, "", "buy", "click[b01]", "search[]", "search[x", "\x00", "é" * 4000])
def test_illegal_answers_change_nothing_and_count_as_a_step(answer: str | None) -> None:
    env = environment(invalid_reward=-0.5)
    before, _ = env.reset(seed=1)
    after, *rest = env.step(answer)
    assert rest == [-0.5, False, False, {"invalid": True}]
    assert after["prompt"] == before["prompt"]
    assert np.array_equal(after["frames"], before["frames"])
    assert env.steps == 1
    assert environment().invalid_reward == -0.1


def test_thousands_of_illegal_answers() -> None:
    env = environment(max_steps=10**6)
    env.reset(seed=0)
    rng = random.Random(0)
    act(env, "search[mug]")
    state = env.state
    for _ in range(4000):
        text = "".join(rng.choices(string.printable + "éß💥\x00", k=rng.randint(0, 40)))
        for answer in (text, f"click[{text}]", f"search[{text}]"):
            assert env.parse_action(answer) is None
            assert env.step(answer)[1] == -0.1
    assert env.state == state


def test_anything_but_a_text_is_an_error() -> None:
    env = environment()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action 3 is neither None nor a text"):
        env.step(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "limit"), [({}, 12), ({"max_steps": 3}, 3), ({"catalogue": "default"}, 100)])
def test_truncation(options: dict[str, Any], limit: int) -> None:
    env = environment(**options)
    env.reset(seed=0)
    ends = [env.step(None)[1:] for _ in range(limit)]
    assert ends[:-1] == [(-0.1, False, False, {"invalid": True})] * (limit - 1)
    assert ends[-1] == (-0.1, False, True, {"invalid": True, "success": False, "score": 0.0})


def test_buying_on_the_last_step_is_not_a_truncation() -> None:
    env = environment(max_steps=3)
    env.reset(seed=0)
    act(env, "search[mug]")
    act(env, "click[b01]")
    assert act(env, "click[buy now]")[2:4] == (True, False)


@pytest.mark.parametrize("catalogue", ["small", "default"])
def test_seeds_of_evaluation_draw_from_the_test_goals_evenly(catalogue: str) -> None:
    env = environment(catalogue)
    test, dev, train = (split(len(env.shop.goals), name) for name in ("test", "dev", "train"))
    drawn = Counter[int]()
    for i in range(600):
        env.reset(seed=EVALUATION_SEEDS[i])
        drawn[env.goal_number] += 1
        env.reset(seed=i)
        assert env.goal_number in train
        env.reset()
        assert env.goal_number in train
    if catalogue == "small":
        assert set(drawn) == {*test, *dev}
        assert chisquare(list(drawn.values())).pvalue > 1e-3
    else:
        assert set(drawn) <= set(test)


def test_training_goals_are_drawn_by_their_weights() -> None:
    env = environment()
    drawn = Counter[int]()
    for seed in range(20000):
        env.np_random = np.random.default_rng(seed)
        drawn[env._draw_goal(test=False)] += 1
    goals = env.shop.goals
    train = split(len(goals), "train")
    total = sum(goals[i].weight for i in train)
    assert set(drawn) == set(train)
    assert len({goals[i].weight for i in train}) > 1
    for i in train:
        assert abs(drawn[i] / 20000 - goals[i].weight / total) < 0.005


@pytest.mark.parametrize(("catalogue", "episodes"), [("small", 100), ("default", 100)])
def test_expert_always_scores_1(catalogue: str, episodes: int) -> None:
    env = environment(catalogue)
    for seed in (*range(episodes), *(EVALUATION_SEEDS[i] for i in range(episodes // 4))):
        env.reset(seed=seed)
        terminated = truncated = False
        while not (terminated or truncated):
            text = env.expert_action()
            assert text is not None
            _, reward, terminated, truncated, info = act(env, text)
        assert (reward, terminated, info["success"]) == (1.0, True, True)
        assert env.steps <= 6
        assert env.expert_action() is None


@pytest.mark.parametrize("catalogue", ["small", "default"])
def test_expert_finds_back_from_anywhere(catalogue: str) -> None:
    env = environment(catalogue, max_steps=100)
    rng = random.Random(2)
    for seed in range(30):
        env.reset(seed=seed)
        for _ in range(8):
            names = [name for name in env.action_names if name != "click[buy now]"]
            act(env, rng.choice(names))
        reward, terminated = 0.0, False
        while not terminated:
            text = env.expert_action()
            assert text is not None
            _, reward, terminated, truncated, _ = act(env, text)
            assert not truncated
        assert reward == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pictures": "painted"}, 'pictures is \'painted\'; it must be "browser" or "drawn"'),
        ({"goals": "animal"}, 'goals is \'animal\'; it must be "synthetic" or "human"'),
        ({"max_steps": 0}, "max_steps is 0; it must be at least 1"),
        ({"prompt_style": "long"}, "prompt_style is 'long'"),
    ],
)
def test_options_that_are_not_accepted(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        environment(**options)
    assert "\n" not in str(error.value)


def test_every_page_of_the_small_catalogue_looks_different() -> None:
    env = environment()
    env.reset(seed=0)
    seen: dict[bytes, Any] = {}
    stack = [State(), State("results", "mug"), State("results", "lamp"), State("results", "no such thing")]
    while stack:
        env.state, env._frame = stack.pop(), None
        picture = env.render()
        assert picture.shape == (64, 64, 3)
        looks = (env.state.page, env.state.query, env.state.asin, env.state.options)
        if env.state.page != "done":
            assert seen.setdefault(picture.tobytes(), looks)[0] == looks[0]
        if not env.state.options and env.state.page in ("results", "item"):
            stack += [after for after in env.shop.clicks(env.state).values() if after.page == "item"]
    assert len(seen) >= 2 + 2 + 4 * 4  # mugs and lamps in two colors, with one of three sizes or none


def test_a_frame_is_the_callers_own() -> None:
    env = environment()
    env.reset(seed=0)
    before = env.render()
    env.render()[:] = 0
    assert np.array_equal(env.render(), before)


def test_the_drawn_shop_needs_neither_server_nor_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("socket.socket.bind", refuse)
    monkeypatch.setattr("subprocess.Popen.__init__", refuse)
    env = environment("default")
    env.reset(seed=0)
    act(env, "search[mug]")
    env.close()
    env.close()


def test_without_a_browser_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("WEBSHOP_CHROMIUM", raising=False)
    with pytest.raises(SimulatorError, match="apt-get install chromium") as error:
        environment(pictures="browser")
    assert "\n" not in str(error.value)
    monkeypatch.setenv("WEBSHOP_CHROMIUM", "/no/such/program")
    with pytest.raises(SimulatorError, match="WEBSHOP_CHROMIUM names /no/such/program, which is no program"):
        environment(pictures="browser")


def test_many_environments_in_worker_processes() -> None:
    options = {"frames": 2, "prompt": "terse", **SIZE}
    with VectorEnv("WebShop-Small-v0", 4, num_workers=2, seeds=evaluation_seeds(8, 4), **options) as pool:
        observations = pool.reset()
        singles = [make("WebShop-Small-v0", **options) for _ in range(4)]
        expected = [env.reset(seed=evaluation_seeds(8, 4)(i, 0))[0] for i, env in enumerate(singles)]
        answers = ["search[mug]", "search[red]", "nonsense", None]
        for searched in (False, True):  # the second time there is no search bar
            for one, other in zip(observations, expected, strict=True):
                assert one is not None
                assert one["prompt"] == other["prompt"]
                assert np.array_equal(one["frames"], other["frames"])
            step = pool.step(answers)
            assert [info["invalid"] for info in step.infos] == [searched, searched, True, True]
            observations = step.observations
            expected = [env.step(answer)[0] for env, answer in zip(singles, answers, strict=True)]


def test_shops_are_shared() -> None:
    assert environment().shop is environment(prompt_style="terse").shop is shop_module.open_shop("small", "synthetic")
