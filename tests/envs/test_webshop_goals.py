from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from itertools import product as combinations
from typing import Any, get_args

import pytest

from envs.base import EVALUATION_SEEDS
from envs.webshop import WebShop, small
from envs.webshop.goals import Goal, Split, make_goals, price_limit, split
from envs.webshop.products import Catalogue, Instruction, Product

PRODUCT = Product(
    asin="B1",
    title="Red Cup",
    category="home",
    query="cup",
    product_category="home › cup",
    description="",
    bullet_points=(),
    attributes=("red",),
    price=12.0,
    options={"size": ("s", "l"), "color": ("red", "blue", "gold")},
    surcharges={"l": 10.0},
    instructions=(Instruction("a red cup", ("red",)),),
)


def goals_of(*products: Product, kind: Any = "synthetic") -> tuple[Goal, ...]:
    return make_goals(Catalogue("test", products), kind)


def test_synthetic_goals_are_all_combinations_of_options() -> None:
    goals = goals_of(PRODUCT)
    assert {(goal.option_names, goal.options) for goal in goals} == {
        (("color", "size"), pair) for pair in combinations(("red", "blue", "gold"), ("s", "l"))
    }
    for goal in goals:
        color, size = goal.options
        wish = re.fullmatch(
            rf"a red cup with color: {color}, and size: {size}, and price lower than (\d+)\.00 dollars",
            goal.instruction,
        )
        assert wish is not None
        assert float(wish[1]) == goal.price_upper
        price = 22.0 if size == "l" else 12.0
        assert goal.price_upper in [m for m in range(10, 1000, 10) if m > price][1:4]
        assert not goal.written


def test_combinations_of_one_price_share_their_limit() -> None:
    goals = goals_of(replace(PRODUCT, surcharges={}))
    assert len({goal.price_upper for goal in goals}) == 1
    alone = goals_of(replace(PRODUCT, asin="B0", price=400.0), replace(PRODUCT, surcharges={}))
    assert {goal.price_upper for goal in alone if goal.asin == "B1"} == {goals[0].price_upper}


@pytest.mark.parametrize(
    ("price", "multiples"),
    [(9.99, [10, 20, 30, 40]), (10.0, [20, 30, 40, 50]), (965.0, [970, 980, 990]), (975.0, [980, 990])],
)
def test_price_limit_is_the_larger_of_two(price: float, multiples: list[int]) -> None:
    drawn = Counter(price_limit(price, random.Random(seed)) for seed in range(4000))
    pairs = [(a, b) for a in multiples for b in multiples if a < b]
    expected = Counter(float(b) for _, b in pairs)
    assert drawn.keys() == expected.keys()
    for limit, count in expected.items():
        assert abs(drawn[limit] / 4000 - count / len(pairs)) < 0.04


@pytest.mark.parametrize("price", [980.0, 5000.0])
def test_dear_products_have_no_limit(price: float) -> None:
    assert price_limit(price, random.Random(0)) is None
    goal = goals_of(replace(PRODUCT, price=price, options={}))[0]
    assert goal.instruction == "a red cup"
    assert not goal.has_price_limit
    assert goal.price_upper == 1_000_000


def test_weights_are_the_mean_of_the_inverse_counts() -> None:
    first = replace(PRODUCT, options={}, instructions=(Instruction("x", ("red", "round")),))
    second = replace(PRODUCT, asin="B2", options={"size": ("s", "l")}, instructions=(Instruction("y", ("red",)),))
    weights = {(goal.asin, goal.options): goal.weight for goal in goals_of(first, second)}
    assert weights == {
        ("B1", ()): pytest.approx((1 / 3 + 1) / 2),
        ("B2", ("s",)): pytest.approx(1 / 3),
        ("B2", ("l",)): pytest.approx(1 / 3),
    }


def test_human_goals() -> None:
    written = (Instruction("I need a cup.", ("red",), ("gold",)), Instruction("any cup", ("round",), ()))
    goals = {goal.attributes: goal for goal in goals_of(replace(PRODUCT, human_instructions=written), kind="human")}
    assert goals[("red",)].instruction.startswith("I need a cup, and price lower than ")
    assert goals[("red",)].options == ("gold",)
    assert goals[("round",)].options == ()
    assert all(goal.written and goal.weight == 1.0 for goal in goals.values())
    assert goals_of(PRODUCT, kind="human") == ()


def test_the_order_is_that_of_pythons_generator_with_seed_233() -> None:
    products = [replace(PRODUCT, asin=f"B{i}", options={}) for i in range(20)]
    order = [f"B{i}" for i in range(20)]
    random.seed(233)
    random.shuffle(order)
    assert [goal.asin for goal in goals_of(*products)] == order


@pytest.mark.parametrize("count", [2, 3, 12, 72, 1000, 5999, 6000, 12087])
def test_splits_are_disjoint_and_complete(count: int) -> None:
    parts = [split(count, name) for name in get_args(Split)]
    assert sorted(number for part in parts for number in part) == list(range(count))
    assert len(split(count, "test")) >= 1
    assert len(split(count, "train")) >= 1


def test_splits_of_the_released_goals() -> None:
    assert [split(12087, name) for name in ("test", "dev", "train")] == [
        range(500),
        range(500, 1500),
        range(1500, 12087),
    ]
    assert [split(72, name) for name in ("test", "dev", "train")] == [range(6), range(6, 18), range(18, 72)]


def test_the_small_catalogue_has_goals_whose_parts_are_known_from_training() -> None:
    """Eight products, three wishes, three sizes, three limits: no test goal is trained on, but all its parts are."""
    goals = make_goals(small.catalogue(), "synthetic")
    assert len(goals) == len(set(goals)) == 8 * 3 * 3 * 3
    prices = {product.asin: product.price for product in small.catalogue().products}
    for goal in goals:
        above = [limit for limit in range(10, 200, 10) if limit > prices[goal.asin]]
        assert goal.price_upper in above[1:4]
        assert goal.instruction.endswith(
            f"size: {goal.options[0]}, and price lower than {goal.price_upper:.2f} dollars"
        )
    world = WebShop(width=32, height=32, catalogue="small", pictures="drawn")
    drawn = set()
    for seed in EVALUATION_SEEDS[:600]:
        world.reset(seed=seed)
        drawn.add(world.goal_number)
    world.close()
    assert drawn == {*split(len(goals), "test"), *split(len(goals), "dev")}
    train, test = [goals[i] for i in split(len(goals), "train")], [goals[i] for i in drawn]
    assert (len(train), len(test)) == (162, 54)
    for part in (
        lambda goal: (goal.asin, goal.attributes),
        lambda goal: (goal.asin, goal.price_upper),
        lambda goal: (goal.asin, goal.options),
    ):
        assert {part(goal) for goal in test} <= {part(goal) for goal in train}
