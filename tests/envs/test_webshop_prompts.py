from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from envs.base import MAX_PROMPT_CHARACTERS
from envs.webshop import WebShop
from envs.webshop.products import Catalogue, Instruction, Product
from envs.webshop.shop import Shop, State

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


def test_descriptions_are_true() -> None:
    """What is said to fit can be bought for a score of 1, and nothing else."""
    env = environment()
    rng = random.Random(3)
    seen = set()
    for seed in range(120):
        env.reset(seed=seed)
        for _ in range(6):
            text = env.describe()
            assert text.isascii()
            assert len(text.split()) <= 20
            if env.state.page == "results":
                named = re.findall(r"b\d\d", text)
                best = {hit.asin.lower() for hit in env.shop.shown_hits(env.state) if best_score(env, hit) == 1}
                assert set(named) <= best
                assert len(named) == min(len(best), 2)
                assert ("nothing fits" in text) == (not best)
                seen.add("results" if best else "nothing")
            elif env.state.page == "item":
                fits = best_score(env, env.shop.product(env.state)) == 1
                bought = env.shop.score(env.state, env.goal).total
                expected = "does not fit" if not fits else "chosen." if bought == 1 else "not chosen yet"
                assert expected in text
                assert ("not chosen" in text) == (expected == "not chosen yet")
                seen.add(expected)
            names = [name for name in env.action_names if name != "click[buy now]"]
            act(env, rng.choice(["search[mug]", "search[lamp]"] if env.state.page == "search" else names))
    assert seen == {"results", "nothing", "does not fit", "chosen.", "not chosen yet"}


def best_score(env: WebShop, product: Product) -> float:
    return max(
        env.shop.score(State("item", "x", 1, product.asin, (("size", size),)), env.goal).total
        for size in product.options["size"]
    )


def test_descriptions() -> None:
    env = environment()
    goal = reset_to(env, "red clay mug", "large")
    limit = f"{goal.price_upper:.0f}"
    assert env.describe() == "search page. wanted: mug."
    act(env, "search[mug]")
    assert env.describe() == f"results. b01 fits red clay mug, under {limit}."
    act(env, "click[b02]")
    assert env.describe() == "b02 does not fit."
    act(env, "click[< prev]")
    act(env, "click[b01]")
    assert env.describe() == "b01 fits. size large not chosen yet."
    act(env, "click[small]")
    assert env.describe() == "b01 fits. size large not chosen yet."
    act(env, "click[large]")
    assert env.describe() == "b01 fits. size large chosen."
    act(env, "click[buy now]")
    assert env.describe() == "bought b01, score 1.00."


def test_terse_prompts() -> None:
    env = environment(prompt_style="terse")
    goal = reset_to(env, "red clay mug", "large")
    want = f"want red clay mug, size large, under {goal.price_upper:.0f}. "
    observation, *_ = env.step(None)
    assert observation["prompt"] == want + "search page. actions: search[mug]."
    observation, *_ = act(env, "search[mug]")
    assert observation["prompt"] == (
        want
        + "results: b01 red clay mug $12; b02 blue steel mug $15; b03 red steel mug $65; b04 blue clay mug $58. "
        + "actions: click[b01], click[b02], click[b03], click[b04], click[back to search]."
    )
    act(env, "click[b01]")
    observation, *_ = act(env, "click[large]")
    assert observation["prompt"] == (
        want
        + "item b01 red clay mug $12. chosen: size large. actions: click[small], click[medium], click[large], "
        + "click[back to search], click[< prev], click[buy now]."
    )


@pytest.mark.parametrize("prompt_style", ["terse", "full"])
@pytest.mark.parametrize("catalogue", ["small", "default"])
def test_prompts_hold_what_is_needed(catalogue: str, prompt_style: Any) -> None:
    env = environment(catalogue, prompt_style=prompt_style, max_steps=10**6)
    rng = random.Random(4)
    for seed in range(25):
        observation, _ = env.reset(seed=seed)
        for _ in range(10):
            text = observation["prompt"]
            assert text.isascii()
            assert 0 < len(text) <= MAX_PROMPT_CHARACTERS
            assert f"ctions: {', '.join(env.action_names)}." in text
            assert env.observation_space.contains(observation)
            if prompt_style == "full":
                assert env.goal.instruction in text
                assert "{" not in text.split("Instruction:")[0]
                assert ("description, features, reviews tell more" in text) == (catalogue == "default")
                assert list(json.loads(re.findall(r"\{.*\}", text)[-1])) == ["thoughts", "action"]
            else:
                assert "\n" not in text
            if env.state.page == "section":
                shown = env.shop.product(env.state)
                told = {"description": [shown.description], "features": shown.bullet_points}.get(env.state.section)
                for piece in told or [review.body for review in shown.reviews]:
                    assert piece in text
            for name in env.action_names:
                assert env.parse_action(f" {name.upper()}\n") == name
                assert env.parse_action(f"{name} {name}") is None
            observation, *_ = act(env, rng.choice([n for n in env.action_names if n != "click[buy now]"]))


def test_long_texts_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    product = Product(
        asin="B1",
        title="Tasse " + "é" * 3000,
        category="home",
        query="cup",
        product_category="home",
        description="long story " * 4000,
        bullet_points=("p" * 9000,) * 5,
        attributes=("round",),
        price=5.0,
        options={"color": tuple(f"shade {i} " + "x" * 40 for i in range(400))},
        instructions=(Instruction("a round cup " * 500, ("round",)),),
    )
    shop = Shop(Catalogue("long", (product,)))
    monkeypatch.setattr("envs.webshop.env.open_shop", lambda *_: shop)
    for style in ("terse", "full"):
        env = environment(prompt_style=style)
        observation, _ = env.reset(seed=0)
        actions = ["search[tasse]", "click[b1]", "click[description]", "click[< prev]", "click[features]"]
        for action in [None, *actions]:
            observation, *_ = env.step(action)
            assert env.observation_space.contains(observation)
            assert len(observation["prompt"]) <= MAX_PROMPT_CHARACTERS
        assert env.state.section == "features"
        if style == "full":
            assert "characters in all)" in observation["prompt"]
        observation, *_ = act(env, "click[< prev]")
        assert "more clicks on what the page names" in observation["prompt"]
        listed = observation["prompt"].count("click[shade")
        more = re.search(r"and (\d+) more clicks", observation["prompt"])
        assert more is not None
        assert listed + int(more[1]) == len(env.action_names)


def test_a_cut_list_of_actions_holds_whole_ones_and_counts_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    product = Product(
        asin="B1",
        title="cup",
        category="home",
        query="cup",
        product_category="home",
        description="",
        bullet_points=(),
        attributes=("round",),
        price=5.0,
        options={"set": tuple(f"cup {i}, saucer [{i}], {'spoon ' * 5}and tray" for i in range(90))},
        instructions=(Instruction("a round cup", ("round",)),),
    )
    monkeypatch.setattr("envs.webshop.env.open_shop", lambda *_: Shop(Catalogue("sets", (product,))))
    env = environment(prompt_style="terse")
    env.reset(seed=0)
    act(env, "search[cup]")
    observation, *_ = act(env, "click[b1]")
    told, more = re.findall(r"actions: (.*) and (\d+) more clicks", observation["prompt"])[0]
    count = len(env.action_names) - int(more)
    assert 0 < count < 90
    assert told == ", ".join(env.action_names[:count])


def test_the_expert_searches_for_a_title_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    product = Product(
        asin="B1",
        title="[3 Pack] USB Cord [new]",
        category="home",
        query="[usb] cord",
        product_category="home",
        description="",
        bullet_points=(),
        attributes=("round",),
        price=5.0,
        options={"color": ("red", "blue")},
        instructions=(Instruction("a round [usb] cord", ("round",)),),
    )
    monkeypatch.setattr("envs.webshop.env.open_shop", lambda *_: Shop(Catalogue("cords", (product,))))
    env = environment()
    env.reset(seed=0)
    assert env.expert_action() == "search[3 pack usb cord new]"
    assert "[" not in env.describe()
    while (action := env.expert_action()) is not None:
        *_, info = act(env, action)
    assert info["success"]
