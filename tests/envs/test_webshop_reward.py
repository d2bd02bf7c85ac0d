from __future__ import annotations

import itertools
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from envs.base import MissingSimulatorError, SimulatorError
from envs.webshop import nouns as nouns_module
from envs.webshop.goals import Goal
from envs.webshop.matching import normalize_color, same
from envs.webshop.nouns import rule_nouns
from envs.webshop.products import Product
from envs.webshop.reward import Score, has_attribute, option_hits, score, title_score, type_score
from envs.webshop.shop import open_shop

PRODUCT = Product(
    asin="B1",
    title="Harbor Steel Tea Kettle",
    category="kitchen",
    query="tea kettle",
    product_category="Home › Kitchen › Kettles",
    description="Boils fast. The spout is Drip Free.",
    bullet_points=("Whistles loudly.", "Holds two liters"),
    attributes=("essential oil", "tea tree"),
    price=20.0,
)
GOAL = Goal(
    asin="B1",
    title=PRODUCT.title,
    category="kitchen",
    query="tea kettle",
    product_category=PRODUCT.product_category,
    instruction="a kettle",
    attributes=("essential oils", "drip free", "whistles"),
    options=("red", "xl"),
    option_names=("color", "size"),
    price_upper=30.0,
)


def words(title: str) -> tuple[str, ...]:
    return tuple(title.lower().split())


def subsequence(a: str, b: str) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for letter in a:
        before = row
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if letter == other else max(before[j + 1], row[j]))
    return row[-1]


def token_set_ratio(a: str, b: str) -> int:
    """thefuzz's score, from its definition: case and what is neither a letter nor a digit do not count."""

    def ratio(x: str, y: str) -> float:
        return 200 * subsequence(x, y) / (len(x) + len(y)) if x and y else 0.0

    left, right = (set(re.sub("[^a-z0-9]", " ", text.lower()).split()) for text in (a, b))
    if not left or not right:
        return 0
    both = " ".join(sorted(left & right))
    first = f"{both} {' '.join(sorted(left - right))}".strip()
    second = f"{both} {' '.join(sorted(right - left))}".strip()
    return round(max(ratio(both, first), ratio(both, second), ratio(first, second)))


def slow_score(product: Product, goal: Goal, price: float, chosen: list[str]) -> float:
    """The released formula, step by step."""
    attributes = 0
    for wanted in goal.attributes:
        matched = False
        for attribute in product.attributes:
            if token_set_ratio(attribute, wanted) > 85:
                matched = True
        for text in (product.title, " ".join(product.bullet_points), product.description):
            if wanted in text.lower():
                matched = True
        attributes += matched
    options = 0
    for wanted in goal.options:
        matched = False
        for value in chosen:
            if token_set_ratio(normalize_color(value), normalize_color(wanted)) > 85:
                matched = True
        options += matched
    total = (attributes + options + (price <= goal.price_upper)) / (len(goal.attributes) + len(goal.options) + 1)
    bought, desired = rule_nouns(product.title), rule_nouns(goal.title)
    share = len(set(bought) & set(desired)) / len(desired) if desired else 0.2
    levels = [{x.strip() for x in c.split("›")} for c in (product.product_category, goal.product_category)]
    r_type = 1.0
    if not (product.query == goal.query or len(levels[0] & levels[1]) >= 2 or share > 0.2):
        r_type = 0.5
    if share < 0.1:
        r_type = 0.1
    if share == 0.0:
        r_type = 0.0
    return total * r_type


@pytest.mark.parametrize(("catalogue", "pairs"), [("small", None), ("default", 1200)])
def test_scores_are_those_of_the_slow_formula(catalogue: str, pairs: int | None) -> None:
    shop = open_shop(catalogue, "synthetic")
    rng = random.Random(0)
    every = itertools.product(shop.catalogue.products, shop.goals) if pairs is None else None
    some = every or [
        (rng.choice([p for p in shop.catalogue.products if p.query == goal.query or rng.random() < 0.2]), goal)
        for goal in rng.choices(shop.goals, k=pairs or 0)
    ]
    seen = set()
    for product, goal in some:
        options = {name: rng.choice(values) for name, values in product.options.items() if rng.random() < 0.8}
        price = product.price_with(options)
        got = score(product, goal, price, options.values(), shop.nouns).total
        assert got == pytest.approx(slow_score(product, goal, price, list(options.values())), abs=1e-12)
        assert 0 <= got <= 1
        seen.add(round(got, 6))
    assert {0.0, 1.0} <= seen
    assert len(seen) >= 6


def test_same_is_thefuzz_score() -> None:
    rng = random.Random(1)
    vocabulary = [
        "tea",
        "tree",
        "oil",
        "oils",
        "natural",
        "naturally",
        "pack",
        "of",
        "2",
        "16",
        "ounce",
        "x-large",
        "large",
    ]
    for _ in range(3000):
        a, b = (" ".join(rng.choices(vocabulary, k=rng.randint(1, 4))) for _ in range(2))
        assert same(a, b) == (token_set_ratio(a, b) > 85), (a, b)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("essential oils", "essential oil", True),
        ("Tea-Tree!", "tea tree", True),
        ("powder snow", "cool powder snow", True),
        ("tea bag", "tea tree", False),
        ("", "", False),
        ("!!!", "!!!", False),
        ("16 ounce", "24 ounce", False),
        ("café", "caf", True),  # what is not ASCII is left out
        # 85.7 and 85.2 out of 100: rounded before it is compared, as thefuzz rounds
        ("abcdef", "abcdefgh", True),
        ("abcdefghijklmnopqrstuvw", "abcdefghijklmnopqrstuvwxyz01234", False),
    ],
)
def test_same(a: str, b: str, expected: bool) -> None:
    assert same(a, b) is same(b, a) is expected


@pytest.mark.parametrize(
    ("text", "color"),
    [("", ""), ("black forest", "black"), ("violet lavender", "lavender"), ("123alabaster", "alabaster"), ("xl", "xl")],
)
def test_normalize_color(text: str, color: str) -> None:
    assert normalize_color(text) == color


@pytest.mark.parametrize(
    ("title", "share"),
    [
        ("harbor steel tea kettle", 1.0),
        ("KETTLE of steel", 0.5),
        ("steel steel steel", 0.25),
        ("chair", 0.0),
        ("", 0.0),
    ],
)
def test_title_score(title: str, share: float) -> None:
    assert title_score(title, "Harbor Steel Tea Kettle", words) == share


def test_a_noun_that_is_wanted_twice_counts_twice() -> None:
    assert title_score("tea cup", "tea for tea time", words) == 0.25
    assert title_score("anything", "", words) == 0.2


TWELVE = "a b c d e f g h i j k l"


@pytest.mark.parametrize(
    ("title", "query", "category", "expected"),
    [
        # share 1/12 < 0.1
        ("a", "tea kettle", "Home › Kitchen", 0.1),
        ("a", "other", "Other", 0.1),
        # share 0
        ("z", "tea kettle", "Home › Kitchen", 0.0),
        # 2/12: between 0.1 and 0.2, so query or two levels decide
        ("a b", "other", "Other", 0.5),
        ("a b", "tea kettle", "Other", 1.0),
        ("a b", "other", "Kitchen › Elsewhere › Home", 1.0),
        ("a b", "other", "Kitchen › Kitchen › Elsewhere", 0.5),
        # 3/12 > 0.2
        ("a b c", "other", "Other", 1.0),
    ],
)
def test_every_branch_of_the_type(title: str, query: str, category: str, expected: float) -> None:
    product = replace(PRODUCT, title=title, query=query, product_category=category)
    assert type_score(product, replace(GOAL, title=TWELVE), words) == expected


def test_a_title_without_nouns_counts_as_a_fifth() -> None:
    goal = replace(GOAL, title="")
    assert type_score(PRODUCT, goal, words) == 1.0
    assert type_score(replace(PRODUCT, query="other", product_category="Other"), goal, words) == 0.5


@pytest.mark.parametrize(
    ("wanted", "has"),
    [("essential oils", True), ("drip free", True), ("two liters", True), ("harbor", True), ("Whistles", False)],
)
def test_attributes(wanted: str, has: bool) -> None:
    assert has_attribute(PRODUCT, wanted) is has  # what is wanted is compared with small letters as it stands


@pytest.mark.parametrize(
    ("chosen", "wanted", "hits"),
    [
        (["pack of 12", "grey", "xl"], ["grey", "xl", "pack of 12"], 3),
        (["blue", "xl"], ["grey", "xl"], 1),
        (["dark red"], ["dark teal"], 1),  # both are "dark"
        (["dark red"], ["dark blue"], 0),  # "blue" comes before "dark"
        (["navy blue"], ["blue"], 1),
        (["xl", "xl"], ["xl"], 1),
        ([], ["xl"], 0),
        (["xl"], [], 0),
        (["color"], ["red wine"], 0),  # the released shop, which compares with ("color", "red wine"), gives 1
    ],
)
def test_options(chosen: list[str], wanted: list[str], hits: int) -> None:
    assert option_hits(chosen, wanted) == hits


@pytest.mark.parametrize(
    ("price", "options", "expected"),
    [
        (30.0, ["red", "xl"], 1.0),
        (30.01, ["red", "xl"], 5 / 6),
        (30.0, ["red"], 5 / 6),
        (31.0, [], 3 / 6),
    ],
)
def test_total(price: float, options: list[str], expected: float) -> None:
    assert score(PRODUCT, GOAL, price, options, words).total == pytest.approx(expected)


def test_the_type_multiplies() -> None:
    assert Score(0.5, (1, 2), (0, 1), True).total == pytest.approx(0.5 * 2 / 4)
    assert Score(0.0, (2, 2), (1, 1), True).total == 0.0
    assert Score(1.0, (2, 2), (1, 1), True).total == 1.0


@pytest.mark.parametrize(
    ("title", "nouns"),
    [
        ("red clay mug", ("clay", "mug")),
        ("Norvane Stainless Steel Water Bottle, Leak Proof", ("norvane", "steel", "water", "bottle", "leak")),
        ("2 Pack of the Washable T-Shirt (Navy)", ("pack", "t-shirt")),
        ("", ()),
    ],
)
def test_rule_nouns(title: str, nouns: tuple[str, ...]) -> None:
    assert rule_nouns(title) == nouns


class Token:
    def __init__(self, text: str, pos: str) -> None:
        self.text, self.pos_ = text, pos


def model(name: str, asked: list[str]) -> ModuleType:
    """An installed model of spaCy."""
    made = ModuleType(name)

    def load(**_: Any) -> Any:
        asked.append(name)
        return lambda title: [Token("Red", "ADJ"), Token("Mug", "NOUN"), Token("Norvane", "PROPN"), Token("of", "ADP")]

    made.load = load  # type: ignore[attr-defined]  # as a model's package has it
    return made


@pytest.fixture
def fresh() -> Iterator[None]:
    nouns_module._model.cache_clear()
    nouns_module.spacy_nouns.cache_clear()
    yield
    nouns_module._model.cache_clear()
    nouns_module.spacy_nouns.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_spacy_takes_the_model_of_the_released_shop_whatever_others_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("en_core_web_lg", "en_core_web_sm"):
        monkeypatch.setitem(sys.modules, name, model(name, asked))
    assert nouns_module.nouns_of("rules") is rule_nouns
    assert asked == []
    tagger = nouns_module.nouns_of("spacy")
    assert tagger("a title that no other test has") == ("mug", "norvane")
    assert asked == ["en_core_web_sm"]


@pytest.mark.usefixtures("fresh")
def test_an_absent_model_is_an_error_with_its_cure_and_never_other_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "en_core_web_lg", model("en_core_web_lg", []))
    monkeypatch.setitem(sys.modules, "en_core_web_sm", None)
    with pytest.raises(MissingSimulatorError, match=r'spacy download en_core_web_sm, or set .* tagger to "rules"'):
        nouns_module.nouns_of("spacy")

    def other_version(**_: Any) -> Any:
        raise ValueError("[E053] Could not read config file\nfrom x")

    broken = model("en_core_web_sm", [])
    broken.load = other_version  # type: ignore[attr-defined]  # as above
    monkeypatch.setitem(sys.modules, "en_core_web_sm", broken)
    with pytest.raises(SimulatorError, match=r"E053.*; install the model of this version") as error:
        nouns_module.nouns_of("spacy")
    assert "\n" not in str(error.value)
