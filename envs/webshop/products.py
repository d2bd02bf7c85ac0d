"""What a shop sells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from envs.base import SimulatorError

#: The pages behind an item, in the order of their links.
SECTIONS = ("description", "features", "reviews")
_NOTHING: Mapping[str, Any] = MappingProxyType({})

#: What finds the nouns of a title, on which the reward depends; see `nouns`.
Tagger = Literal["spacy", "rules"]


class CatalogueError(SimulatorError, ValueError):
    """A catalogue that does not exist, or is not what it should be. The message is one line."""


@dataclass(frozen=True)
class Review:
    """What a customer wrote.

    Attributes:
        stars: 1 to 5.
        title: one line.
        body: the rest.
    """

    stars: float
    title: str
    body: str


@dataclass(frozen=True)
class Instruction:
    """What a customer might want of a product, before options and price.

    Attributes:
        text: the wish in words.
        attributes: the attributes it asks for, at least one.
        options: the option values it asks for, or None where every combination of options makes a goal of its own.
    """

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Product:
    """An item of the shop.

    Attributes:
        asin: its id, in capital letters.
        title: its name.
        category: the department.
        query: the search words under which it was collected; products of one kind share them.
        product_category: its place in the department, levels separated by "›".
        description: free text.
        bullet_points: its features, a line each.
        attributes: phrases that hold of it. They are what goals ask for and are not shown as such.
        price: in dollars, before options.
        price_text: the price as it is shown; where it is empty, `price` is shown.
        options: values by the name of their group, all in small letters.
        surcharges: dollars that an option value adds to the price; values that are not named add nothing.
        reviews: what customers wrote.
        rating: the mean of their stars, as it is shown.
        instructions: wishes that this product fulfils, from which synthetic goals are made.
        human_instructions: wishes that people wrote for it.
        picture: the shape it is drawn with, see `pictures`.
        color: the color it is drawn in unless an option says otherwise.
    """

    asin: str
    title: str
    category: str
    query: str
    product_category: str
    description: str
    bullet_points: tuple[str, ...]
    attributes: tuple[str, ...]
    price: float
    price_text: str = ""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)
    surcharges: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    reviews: tuple[Review, ...] = ()
    rating: str = "N.A."
    instructions: tuple[Instruction, ...] = ()
    human_instructions: tuple[Instruction, ...] = ()
    picture: str = "parcel"
    color: str = ""

    def price_with(self, options: Mapping[str, str]) -> float:
        """The price in dollars with the chosen options (values by group)."""
        if not self.surcharges:
            return self.price
        return round(self.price + sum(self.surcharges.get(value, 0.0) for value in options.values()), 2)

    def shown_price(self, options: Mapping[str, str] = _NOTHING) -> str:
        """The price as it is shown with the chosen options."""
        return self.price_text or dollars(self.price_with(options))

    def shown_color(self, options: Mapping[str, str] = _NOTHING) -> str:
        """The color it is shown in: that of the chosen option, or its own."""
        return options.get("color", self.color)

    @cached_property
    def lower_title(self) -> str:
        """The title in small letters."""
        return self.title.lower()

    @cached_property
    def lower_bullet_points(self) -> str:
        """The features as one text in small letters."""
        return " ".join(self.bullet_points).lower()

    @cached_property
    def lower_description(self) -> str:
        """The description in small letters."""
        return self.description.lower()


@dataclass(frozen=True)
class Catalogue:
    """All products of a shop.

    Attributes:
        name: what the catalogue is called in messages.
        products: in the order of the files; search puts equally good hits in this order.
        sections: which pages an item has, of `SECTIONS`.
        tagger: which nouns of a title count where nobody says otherwise, see `nouns`.
        every_limit: whether each synthetic wish is a goal with each price limit that could be drawn for it, and not
            with one alone: few products are then many goals, and those of a split are made of parts of others.
    """

    name: str
    products: tuple[Product, ...]
    sections: tuple[str, ...] = SECTIONS
    tagger: Tagger = "rules"
    every_limit: bool = False

    @cached_property
    def by_asin(self) -> dict[str, Product]:
        """The products by their ids."""
        return {product.asin: product for product in self.products}


def dollars(price: float) -> str:
    """A price as shops write it, such as "$12" or "$12.50"."""
    return f"${price:.0f}" if price == int(price) else f"${price:.2f}"
