"""What customers want, and which of it is for training (WebShop's goal.py and baseline_models/env.py)."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from envs.webshop.products import Catalogue, Instruction, Product

Split = Literal["test", "dev", "train"]

#: The order of the released goals: they are shuffled with Python's generator of this seed.
_SHUFFLE_SEED = 233
_NO_LIMIT = 1_000_000.0
#: The released splits: the first 500 goals, the next 1,000 and the rest.
_TEST, _DEV = 500, 1000
_FULL = 6000


@dataclass(frozen=True)
class Goal:
    """A purchase that somebody wants.

    Attributes:
        asin: a product that fulfils it.
        title: of that product.
        category: see `Product`, and so for `query` and `product_category`.
        instruction: the wish in words, with options and price.
        attributes: at least one.
        options: the wanted option values.
        option_names: the group of each option; people who write instructions name none.
        price_upper: the most that it may cost, in dollars.
        written: whether people wrote the instruction, so that nothing else of the goal may be shown.
        weight: how often it is drawn in training, relative to the others.
    """

    asin: str
    title: str
    category: str
    query: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    option_names: tuple[str, ...]
    price_upper: float
    written: bool = False
    weight: float = 1.0

    @property
    def has_price_limit(self) -> bool:
        """Whether the price matters."""
        return self.price_upper < _NO_LIMIT


def make_goals(catalogue: Catalogue, kind: Literal["synthetic", "human"]) -> tuple[Goal, ...]:
    """All goals of a catalogue in their released order.

    Synthetic goals are drawn the more often the rarer their attributes are: the weight of a goal is the mean over its
    attributes of 1 / the number of goals that ask for it. Human goals are drawn equally often. The options of synthetic
    goals are rewarded otherwise than in the released shop: see `reward.option_hits`.
    """
    goals: list[Goal] = []
    for product in catalogue.products:
        goals += _synthetic(product, catalogue.every_limit) if kind == "synthetic" else _human(product)
    if kind == "synthetic":
        counts = Counter(attribute for goal in goals for attribute in goal.attributes)
        goals = [_weighted(goal, counts) for goal in goals]
    random.Random(_SHUFFLE_SEED).shuffle(goals)
    return tuple(goals)


def split(count: int, name: Split) -> range:
    """The numbers of the goals of a split.

    The released splits are the first 500 goals for tests, the next 1,000 for development and the rest for training.
    Of fewer than 6,000 goals, a twelfth (at least one) and a sixth are taken.
    """
    test, dev = (_TEST, _DEV) if count >= _FULL else (max(1, count // 12), count // 6)
    return {"test": range(test), "dev": range(test, test + dev), "train": range(test + dev, count)}[name]


def price_limit(price: float, rng: random.Random) -> float | None:
    """The larger of two different prices drawn from the next four multiples of $10 above the price, below $1,000.

    Returns:
        None where fewer than two are left.
    """
    multiples = _multiples(price)
    return max(rng.sample(multiples, 2)) if len(multiples) >= 2 else None


def _multiples(price: float) -> list[float]:
    return [10.0 * i for i in range(1, 100) if 10.0 * i > price][:4]


def _synthetic(product: Product, every_limit: bool) -> Iterator[Goal]:
    """A goal for every instruction and combination of options, and for every price limit where that is asked for."""
    names = sorted(product.options)
    for instruction in product.instructions:
        for values in itertools.product(*(product.options[name] for name in names)):
            chosen = dict(zip(names, values, strict=True))
            wish = ", and ".join(f"{name}: {value}" for name, value in chosen.items())
            text = instruction.text + (f" with {wish}" if wish else "")
            price = product.price_with(chosen)
            if every_limit:
                yield from (_limited(product, instruction, text, chosen, limit) for limit in _multiples(price)[1:])
            else:
                yield _goal(product, instruction, text, chosen, price)


def _human(product: Product) -> Iterator[Goal]:
    for instruction in product.human_instructions:
        goal = _goal(product, instruction, instruction.text.strip("."), {}, product.price)
        yield replace(goal, options=instruction.options or (), written=True)


def _goal(product: Product, instruction: Instruction, text: str, options: Mapping[str, str], price: float) -> Goal:
    # Seeded by the product and the wish, so that all combinations of options draw alike and other products, or a part
    # of the catalogue, change nothing.
    limit = price_limit(price, random.Random(f"{_SHUFFLE_SEED} {product.asin} {instruction.text}"))
    return _limited(product, instruction, text, options, limit)


def _limited(
    product: Product, instruction: Instruction, text: str, options: Mapping[str, str], limit: float | None
) -> Goal:
    return Goal(
        asin=product.asin,
        title=product.title,
        category=product.category,
        query=product.query,
        product_category=product.product_category,
        instruction=text if limit is None else f"{text}, and price lower than {limit:.2f} dollars",
        attributes=instruction.attributes,
        options=tuple(options.values()),
        option_names=tuple(options),
        price_upper=_NO_LIMIT if limit is None else limit,
    )


def _weighted(goal: Goal, counts: Counter[str]) -> Goal:
    weight = sum(1 / counts[attribute] for attribute in goal.attributes) / len(goal.attributes)
    return replace(goal, weight=weight)
