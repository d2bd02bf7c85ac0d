"""The default catalogue: about a thousand products, made from `data/catalogue.yaml` with a fixed seed.

Products of one kind differ in material, features, options and price, so that for every goal there are several that
miss it by one of them. The title tells one feature; the others have to be read on the pages of the item.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from envs.webshop.pictures import KINDS
from envs.webshop.products import Catalogue, Instruction, Product, Review
from envs.webshop.text import DATA

_SEED = 20220704
_PER_KIND = 44
#: Features of a product: the first is told in the title, the next ones among the bullet points, the last one in the
#: description.
_FEATURES = 4
#: Of products that come in one color only.
_COLORS = ("green", "rose", "gold", "blue", "brown", "teal", "orange", "purple")
_ACRONYMS = frozenset({"bpa", "gmo", "pfoa", "spf", "upf", "usb", "usda"})
_WISHES = ("i need a {}", "i am looking for a {}", "find me a {}", "i would like a {}")


def catalogue() -> Catalogue:
    """The same products in the same order each time."""
    data = yaml.safe_load((DATA / "catalogue.yaml").read_text(encoding="utf-8"))
    products = list(_products(data))
    random.Random(_SEED).shuffle(products)
    return Catalogue("default", tuple(products))


def _products(data: Mapping[str, Any]) -> Iterator[Product]:
    number = itertools.count(1)
    for department, kinds in data["departments"].items():
        for kind, facts in kinds.items():
            # A generator for each kind: changing one kind changes no other.
            rng = random.Random(f"{_SEED} {kind}")
            variants = [
                (material, *features)
                for material in facts["materials"]
                for features in itertools.combinations(facts["features"], _FEATURES)
            ]
            for material, *features in rng.sample(variants, _PER_KIND):
                rng.shuffle(features)
                yield _product(
                    f"W{next(number):04d}",
                    department=department,
                    kind=kind,
                    facts=facts,
                    material=material,
                    features=features,
                    data=data,
                    rng=rng,
                )


def _product(
    asin: str,
    *,
    department: str,
    kind: str,
    facts: Mapping[str, Any],
    material: str,
    features: list[str],
    data: Mapping[str, Any],
    rng: random.Random,
) -> Product:
    brand = rng.choice(data["brands"])
    low, high = facts["price"]
    options = {name: tuple(values) for name, values in facts["options"].items()}
    # Not every product comes in all values of its first group.
    name, values = next(iter(options.items()))
    offered = rng.sample(values, min(len(values), 4))
    options[name] = tuple(value for value in values if value in offered)
    sentences = [facts["features"][feature] for feature in features]
    reviews = tuple(_review(kind, rng.choice([material, *features]), data, rng) for _ in range(rng.randint(1, 4)))
    wanted = rng.sample([material, *features], rng.choice((2, 2, 3)))
    picture = facts.get("picture", kind)
    assert picture in KINDS
    return Product(
        asin=asin,
        title=f"{brand} {_capitals(material)} {_capitals(kind)}, {_capitals(features[0])}",
        category=department,
        query=kind,
        product_category=facts["place"],
        description=" ".join(
            (
                rng.choice(data["openings"]).format(brand=brand, kind=kind),
                sentences[-1],
                rng.choice(data["closings"]),
            )
        ),
        bullet_points=(f"{material.capitalize()} {kind}.", *sentences[1:-1]),
        attributes=(material, *features),
        price=rng.randint(low, high) - rng.choice((0.0, 0.01, 0.5)),
        options=options,
        surcharges={
            value: float(step * extra)
            for group, extra in facts.get("extra", {}).items()
            for step, value in enumerate(options[group])
        },
        reviews=reviews,
        rating=f"{sum(review.stars for review in reviews) / len(reviews):.1f}",
        instructions=(Instruction(rng.choice(_WISHES).format(f"{', '.join(wanted)} {kind}"), tuple(wanted)),),
        picture=picture,
        color=rng.choice(options.get("color", _COLORS)),
    )


def _capitals(words: str) -> str:
    return " ".join(word.upper() if word in _ACRONYMS else word.title() for word in words.split())


def _review(kind: str, what: str, data: Mapping[str, Any], rng: random.Random) -> Review:
    stars = rng.choice((2, 3, 4, 4, 5, 5, 5))
    title = rng.choice(data["praise" if stars > 3 else "blame"])
    body = f'"{what.capitalize()}" is what it says, and that is what this {kind} is.'
    return Review(float(stars), title, body)
