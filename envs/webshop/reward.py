"""What a purchase is worth (WebShop, arXiv 2207.01206, section 3.1; goal.py of the released code)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from envs.webshop.goals import Goal
from envs.webshop.matching import normalize_color, same
from envs.webshop.products import Product

#: The nouns of a title in small letters, in their order and as often as they occur.
Nouns = Callable[[str], tuple[str, ...]]


@dataclass(frozen=True)
class Score:
    """A purchase held against its goal.

    Attributes:
        type: 1, 0.5, 0.1 or 0 for how near the kind of product is to what was wanted.
        attributes: how many of the wanted attributes the product has, and how many were wanted.
        options: how many of the wanted options were chosen, and how many were wanted.
        price: whether the price is at most the limit.
    """

    type: float
    attributes: tuple[int, int]
    options: tuple[int, int]
    price: bool

    @property
    def total(self) -> float:
        """In [0, 1]: type * (attributes + options + price) / (wanted attributes + wanted options + 1)."""
        hits = self.attributes[0] + self.options[0] + self.price
        return self.type * (hits / (self.attributes[1] + self.options[1] + 1))


def score(product: Product, goal: Goal, price: float, options: Iterable[str], nouns: Nouns) -> Score:
    """Holds a purchase against a goal.

    Args:
        product: what was bought.
        goal: what was wanted.
        price: what was paid, in dollars.
        options: the chosen option values.
        nouns: finds the nouns of a title.
    """
    return Score(
        type=type_score(product, goal, nouns),
        attributes=(sum(has_attribute(product, wanted) for wanted in goal.attributes), len(goal.attributes)),
        options=(option_hits(options, goal.options), len(goal.options)),
        price=price <= goal.price_upper,
    )


def type_score(product: Product, goal: Goal, nouns: Nouns) -> float:
    """How near the kind is: 0 without a shared noun, 0.1 below a tenth of them, 0.5 where nothing fits, else 1.

    Something fits where product and goal have the same query, or share two levels of their place in the department, or
    share more than a fifth of the goal's nouns.
    """
    share = title_score(product.title, goal.title, nouns)
    if share == 0:
        return 0.0
    if share < 0.1:
        return 0.1
    fits = (
        product.query == goal.query
        or len(_levels(product.product_category) & _levels(goal.product_category)) >= 2
        or share > 0.2
    )
    return 1.0 if fits else 0.5


def title_score(title: str, wanted: str, nouns: Nouns) -> float:
    """The share of the wanted title's nouns that occur in the title, 0.2 where it has none.

    A noun that occurs twice in the wanted title counts twice there and once among the shared ones.
    """
    wanted_nouns = nouns(wanted)
    return len(set(nouns(title)) & set(wanted_nouns)) / len(wanted_nouns) if wanted_nouns else 0.2


def has_attribute(product: Product, wanted: str) -> bool:
    """Whether one of the product's attributes is the same as the wanted one, or its text holds it literally."""
    return (
        any(same(attribute, wanted) for attribute in product.attributes)
        or wanted in product.lower_title
        or wanted in product.lower_bullet_points
        or wanted in product.lower_description
    )


def option_hits(chosen: Iterable[str], wanted: Iterable[str]) -> int:
    """How many of the wanted option values are the same as a chosen one, colors by their first name.

    For synthetic goals the released get_reward compares with each chosen value not the wanted value but its pair with
    the option's name, such as ("color", "red wine"). The name then counts as a word of the value, and a color is found
    in the pair only where it is the whole value. Here values are compared with values for all goals, as there for
    human ones and as section 3.1 of the paper has it.
    """
    normal = [normalize_color(value) for value in chosen]
    return sum(any(same(value, normalize_color(want)) for value in normal) for want in wanted)


def _levels(product_category: str) -> set[str]:
    return {level.strip() for level in product_category.split("›")}
