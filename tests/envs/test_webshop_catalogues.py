from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from envs.base import MissingSimulatorError, SimulatorError
from envs.vector import VectorEnv
from envs.webshop import WebShop
from envs.webshop import nouns as nouns_module
from envs.webshop.catalogues import load
from envs.webshop.matching import normalize_color, same
from envs.webshop.nouns import rule_nouns
from envs.webshop.official import FileError
from envs.webshop.pictures import KINDS, picture
from envs.webshop.products import Product
from envs.webshop.reward import score
from envs.webshop.shop import open_shop

DEFAULT = open_shop("default", "synthetic")
#: The words of titles that are not nouns, told by a person.
NOT_NOUNS = frozenset(
    """adjustable anti auto blue braided cancelling cast certified charging clean cold cool cordless curved daily dark
    deep defining detangling double dry early easy extra fair fast first foldable folding free fresh friendly gentle
    green ground hidden high hypoallergenic included insulated keep kosher lasting lightly long low lower magnetic
    matte no non nonstick on open organic padded painted piped plump plumping pouring pressed proof quick raised
    ready recycled red reflective relaxed removable resealable resistant right riveted roasted safe salted sealed
    sensitive sheer single smoked soft spare stackable stainless stay tested unfiltered vegan vented virgin warm
    washable waxed wet whistling wide""".split()  # noqa: SIM905
)


def test_the_default_catalogue_is_large_enough() -> None:
    products = DEFAULT.catalogue.products
    assert len(products) == 1056
    assert len({product.asin for product in products}) == 1056
    assert len({product.category for product in products}) == 6
    assert len({product.query for product in products}) == 24
    assert len(DEFAULT.goals) > 6000  # so that the released sizes of the splits apply


def test_products_are_what_they_say() -> None:
    for product in DEFAULT.catalogue.products:
        text = " ".join((product.title, product.description, *product.bullet_points)).lower()
        for attribute in product.attributes:
            assert attribute in text, product
        # The title tells one feature, the bullet points two, and the description alone the last one.
        assert product.attributes[1] in product.title.lower()
        assert product.attributes[-1] not in " ".join(product.bullet_points).lower()
        assert product.attributes[-1] in product.description.lower()
        assert product.picture in KINDS
        assert product.reviews
        assert 3 <= len(product.description) < 400
        for values in product.options.values():
            assert len(set(values)) == len(values) >= 2


def test_no_text_speaks_of_a_feature_that_the_product_lacks() -> None:
    features: dict[str, set[str]] = {}
    for product in DEFAULT.catalogue.products:
        features.setdefault(product.query, set()).update(product.attributes)
    for product in DEFAULT.catalogue.products:
        text = " ".join((product.title, product.description, *product.bullet_points)).lower()
        for feature in features[product.query] - set(product.attributes):
            assert feature not in text, (product.asin, feature)
            assert not any(same(feature, own) for own in product.attributes), (product.asin, feature)


def test_options_can_be_told_apart_by_the_reward() -> None:
    for product in {p.query: p for p in DEFAULT.catalogue.products}.values():
        values = [normalize_color(value) for values in product.options.values() for value in values]
        for i, value in enumerate(values):
            assert not any(same(value, other) for other in values[:i]), (product.query, values)


def test_every_goal_has_near_misses() -> None:
    rng = random.Random(0)
    nearest = Counter[int]()
    for goal in rng.sample(DEFAULT.goals, 150):
        misses = fits = 0
        for product in DEFAULT.catalogue.products:
            if product.query != goal.query:
                continue
            got = score(product, goal, product.price, goal.options, DEFAULT.nouns)
            lacking = got.attributes[1] - got.attributes[0] + (not got.price)
            misses += lacking == 1
            fits += lacking == 0
        assert fits >= 1
        assert misses >= 3, goal
        nearest[misses] += 1
    assert len(nearest) > 5


def test_a_goal_needs_more_than_titles() -> None:
    goals = random.Random(1).sample(DEFAULT.goals, 300)
    hidden = [
        goal
        for goal in goals
        if not all(attribute in DEFAULT.catalogue.by_asin[goal.asin].title.lower() for attribute in goal.attributes)
    ]
    assert len(hidden) > 200


def test_nouns_are_exact_for_the_words_of_the_catalogues() -> None:
    for name in ("default", "small"):
        for product in load(name).products:
            words = re.findall(r"[a-z]+(?:-[a-z]+)*", product.title.lower())
            assert rule_nouns(product.title) == tuple(word for word in words if word not in NOT_NOUNS), product.title


def test_pictures_differ_by_kind_and_color() -> None:
    pictures = {picture(kind, color, 32).tobytes() for kind in KINDS for color in ("red", "blue")}
    assert len(pictures) == 2 * len(KINDS)
    assert picture("no such kind", "no such color", 16).size == (16, 16)


def test_nothing_depends_on_the_order_of_hashes() -> None:
    code = """
import hashlib
from envs.registry import make
digest = hashlib.sha256()
for env_id, options in (("WebShop-Small-v0", {}), ("WebShop-v0", {"pictures": "drawn"})):
    env = make(env_id, width=64, height=64, options=options)
    world = env.unwrapped
    digest.update(repr([world.shop.goals[:500], world.shop.catalogue.products]).encode())
    for seed in (0, 1, 2**30, 2**30 + 1):
        observation, _ = env.reset(seed=seed)
        while (text := world.expert_action()) is not None:
            digest.update(observation["frames"].tobytes() + observation["prompt"].encode() + world.describe().encode())
            observation, *_ = env.step(world.parse_action(text))
print(digest.hexdigest())
"""
    path = os.pathsep.join(sys.path)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    digests = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(digests) == 1


# The released files

ITEM: dict[str, Any] = {
    "asin": "B000000001",
    "name": "Crème Brush, Soft",
    "category": "beauty",
    "query": " Hair Brush ",
    "product_category": "Beauty › Hair › Brushes",
    "full_description": "A brush.",
    "small_description": ["Soft bristles", "", None, "Made of wood"],
    "pricing": "$10.00$20.50",
    "images": ["https://example.com/x.jpg"],
    "customization_options": {
        "Color": [{"value": " Red/Gold ", "image": None}, {"value": "BLUE"}, {"value": "blue"}],
        "Size": None,
    },
    "brand": "nobody",
}
OTHER = {**ITEM, "asin": "B000000002", "pricing": "$1,234.50", "customization_options": "", "small_description": "One"}
PLAIN = {**ITEM, "asin": "B000000003", "pricing": "", "full_description": float("nan"), "customization_options": {}}
ATTRIBUTES: dict[str, Any] = {
    "B000000001": {
        "attributes": ["soft", "wood"],
        "instruction": "find me a soft brush",
        "instruction_attributes": ["soft"],
    },
    "B000000002": {"attributes": ["firm"], "instruction": None, "instruction_attributes": None},
}
HUMAN: dict[str, Any] = {
    "B000000001": [
        {
            "instruction": "I want a soft brush in gold.",
            "instruction_attributes": ["soft"],
            "instruction_options": ["gold"],
        },
        {"instruction": "no attributes", "instruction_attributes": [], "instruction_options": []},
        {
            "instruction": "a wooden brush",
            "instruction_attributes": ["wood"],
            "instruction_options": {"color": "blue"},
        },
    ]
}
REVIEWS = [
    {
        "asin": "B000000001",
        "average_rating": "4.5",
        "reviews": [{"stars": "4.0 out of 5 stars", "title": "Good", "review": "Very."}, {"score": 2, "body": "Bad."}],
    }
]


def write(directory: Path, **changes: Any) -> Path:
    files = {
        "items_shuffle_1000.json": [ITEM, {**ITEM, "name": "again"}, {**ITEM, "asin": "nan"}, OTHER, PLAIN],
        "items_ins_v2_1000.json": ATTRIBUTES,
        "items_human_ins.json": HUMAN,
        "reviews.json": REVIEWS,
        **changes,
    }
    for name, content in files.items():
        if content is not None:
            (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
    load.cache_clear()
    return directory


def test_the_released_files_drop_in(tmp_path: Path) -> None:
    brush, other, plain = load(str(write(tmp_path))).products
    assert 10.0 < brush.price < 20.5
    assert brush == Product(
        asin="B000000001",
        title="Crème Brush, Soft",
        category="beauty",
        query="hair brush",
        product_category="Beauty › Hair › Brushes",
        description="A brush.",
        bullet_points=("Soft bristles", "Made of wood"),
        attributes=("soft", "wood"),
        price=brush.price,
        price_text="$10.0 to $20.5",
        options={"color": ("red | gold", "blue")},
        reviews=brush.reviews,
        rating="4.5",
        instructions=brush.instructions,
        human_instructions=brush.human_instructions,
    )
    assert [(r.stars, r.title, r.body) for r in brush.reviews] == [(4.0, "Good", "Very."), (2.0, "", "Bad.")]
    assert [(i.text, i.attributes, i.options) for i in brush.instructions] == [
        ("find me a soft brush", ("soft",), None)
    ]
    assert [(i.attributes, i.options) for i in brush.human_instructions] == [
        (("soft",), ("gold",)),
        (("wood",), ("blue",)),
    ]
    assert (other.price, other.price_text, other.bullet_points, other.options) == (1234.5, "$1234.5", ("One",), {})
    assert (plain.price, plain.price_text, plain.description, plain.attributes) == (
        100.0,
        "$100.0",
        "",
        ("DUMMY_ATTR",),
    )
    assert (other.instructions, plain.instructions, plain.rating) == ((), (), "N.A.")
    load.cache_clear()
    assert load(str(tmp_path)).products[0].price == brush.price


@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_environments_of_the_released_files(tmp_path: Path, goals: Any) -> None:
    open_shop.cache_clear()
    unwrapped = WebShop(
        width=64, height=64, catalogue=str(write(tmp_path)), pictures="drawn", goals=goals, tagger="rules"
    )
    assert {goal.instruction.split(", and price")[0] for goal in unwrapped.shop.goals} == (
        {"I want a soft brush in gold", "a wooden brush"}
        if goals == "human"
        else {"find me a soft brush with color: red | gold", "find me a soft brush with color: blue"}
    )
    for seed in range(6):
        observation, _ = unwrapped.reset(seed=seed)
        assert observation["prompt"].isascii()
        if goals == "human":
            assert "hair brush" not in unwrapped.action_names[0]  # what people were not told must not be told
        while (text := unwrapped.expert_action()) is not None:
            observation, reward, _, _, info = unwrapped.step(unwrapped.parse_action(text))
            assert not info["invalid"]
        assert reward == 1.0


ONE: dict[str, Any] = {"items_shuffle_1000.json": [ITEM]}


@pytest.mark.parametrize(
    ("pricing", "price", "shown"),
    [
        ("$.99", 0.99, "$0.99"),
        ("$12.", 12.0, "$12.0"),
        ("$1,234.50", 1234.5, "$1234.5"),
        (None, 100.0, "$100.0"),
        ("$5 each", 5.0, "$5.0"),
    ],
)
def test_prices_are_read_as_the_released_shop_reads_them(
    tmp_path: Path, pricing: Any, price: float, shown: str
) -> None:
    (product,) = load(str(write(tmp_path, **{"items_shuffle_1000.json": [{**ITEM, "pricing": pricing}]}))).products
    assert (product.price, product.price_text) == (price, shown)


@pytest.mark.parametrize("bad", [{"name": None}, {"pricing": "$1.2.3"}, {"asin": 3}, {"customization_options": [1]}])
def test_a_single_product_that_cannot_be_read_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: dict[str, Any]
) -> None:
    rows = [ITEM, {**ITEM, "asin": "B000000009", **bad}, OTHER]
    products = load(str(write(tmp_path, **{"items_shuffle_1000.json": rows}))).products
    assert [product.asin for product in products] == [ITEM["asin"], OTHER["asin"]]
    assert "1 of 3 products are left out, such as: " in caplog.text
    assert "product 1: " in caplog.text


def test_a_file_of_products_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    rows = [{**ITEM, "asin": f"B{number:09}", **({"name": None} if number < 5 else {})} for number in range(40)]
    with pytest.raises(FileError, match="product 0: name is None"):
        load(str(write(tmp_path, **{"items_shuffle_1000.json": rows})))
    assert len(load(str(write(tmp_path, **{"items_shuffle_1000.json": rows[1:]}))).products) == 35


def test_released_files_are_never_tagged_by_other_rules_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "en_core_web_sm", None)
    nouns_module._model.cache_clear()
    open_shop.cache_clear()
    options: dict[str, Any] = {"width": 64, "height": 64, "catalogue": str(write(tmp_path)), "pictures": "drawn"}
    with pytest.raises(MissingSimulatorError, match="en_core_web_sm"):
        WebShop(**options)
    assert WebShop(**options, tagger="rules").shop.tagger == "rules"
    with pytest.raises(ValueError, match="tagger is 'flair'"):
        WebShop(**{**options, "tagger": "flair"})
    assert DEFAULT.tagger == "rules"


def test_wrong_data_is_told_at_once_and_not_as_a_crashed_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"catalogue": str(write(tmp_path, **{"items_shuffle_1000.json": "{"})), "pictures": "drawn"}
    with pytest.raises(SimulatorError, match=r"^\S+items_shuffle_1000\.json cannot be read as JSON") as error:
        VectorEnv("WebShop-v0", 1, num_workers=1, seeds=lambda i, k: k, width=64, height=64, options=options)
    assert "times in a row" not in str(error.value)
    assert "replacing" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items_shuffle_1000.json": None}, "has to hold one file items_shuffle"),
        ({"items_shuffle.json": []}, "found items_shuffle.json, items_shuffle_1000.json"),
        ({"items_ins_v2_1000.json": None}, "has to hold one file items_ins_v2"),
        ({"items_shuffle_1000.json": "{"}, "cannot be read as JSON"),
        ({"items_shuffle_1000.json": {}}, "has to hold a list"),
        ({"items_shuffle_1000.json": []}, "holds no products"),
        ({"items_shuffle_1000.json": [1]}, "product 0 is not an object"),
        ({"items_shuffle_1000.json": [{**ITEM, "name": None}]}, "product 0: name is None"),
        ({"items_shuffle_1000.json": [{**ITEM, "pricing": "$1.2.3"}]}, "pricing is '\\$1.2.3'"),
        (
            {"items_shuffle_1000.json": [{**ITEM, "customization_options": [1]}]},
            "customization_options is not an object",
        ),
        ({"items_shuffle_1000.json": [{**ITEM, "customization_options": {"A": [1]}}]}, "of 'A' is not a list"),
        ({**ONE, "items_ins_v2_1000.json": {ITEM["asin"]: {"attributes": "soft"}}}, "attributes is 'soft'"),
        ({**ONE, "items_ins_v2_1000.json": {ITEM["asin"]: {"instruction": "x"}}}, "asks for no attributes"),
        ({**ONE, "items_human_ins.json": {ITEM["asin"]: [{"instruction_attributes": ["x"]}]}}, "instruction is None"),
        ({**ONE, "items_human_ins.json": {ITEM["asin"]: {"a": 1}}}, "items_human_ins holds .* not a list"),
        ({**ONE, "items_human_ins.json": {ITEM["asin"]: [1]}}, "items_human_ins holds 1 for it"),
        ({**ONE, "items_ins_v2_1000.json": {ITEM["asin"]: [1]}}, "items_ins_v2 holds .* not an object"),
        ({"items_shuffle_1000.json": [{**ITEM, "pricing": "$"}]}, "pricing is '\\$'"),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FileError, match=message) as error:
        load(str(write(tmp_path, **changes)))
    assert "\n" not in str(error.value)


def test_unknown_catalogue() -> None:
    with pytest.raises(ValueError, match='catalogue is \'large\'; it must be "default", "small" or a directory'):
        load("large")


def test_human_goals_need_the_released_files() -> None:
    with pytest.raises(ValueError, match="makes 0 human goals"):
        open_shop("small", "human")
