"""Somebody who knows the catalogue: what fits a goal, what is true of a page, and what to do next."""

from __future__ import annotations

import re

from envs.webshop.goals import Goal
from envs.webshop.matching import normalize_color, same
from envs.webshop.products import Product, dollars
from envs.webshop.reward import score
from envs.webshop.search import STOP_WORDS
from envs.webshop.shop import BACK, BUY, MAX_QUERY_CHARACTERS, NEXT, PAGE_SIZE, PREVIOUS, Shop, State
from envs.webshop.text import label, printable

#: How many fitting items a description names at most.
_NAMED = 2
_PRICE = ", and price lower than "


class Buyer:
    """A customer with one goal, who may read the whole catalogue.

    Args:
        shop: where to buy.
        goal: what to buy.
    """

    def __init__(self, shop: Shop, goal: Goal) -> None:
        self._shop, self._goal = shop, goal
        self._wanted: dict[str, dict[str, str] | None] = {}  # by product

    def options_for(self, product: Product) -> dict[str, str] | None:
        """The options (values by group) with which this product scores 1, or None where it cannot."""
        if product.asin not in self._wanted:
            options = self._choose(product)
            bought = score(product, self._goal, product.price_with(options), options.values(), self._shop.nouns)
            self._wanted[product.asin] = options if bought.total == 1 else None
        return self._wanted[product.asin]

    def describe(self, state: State) -> str:
        """One true sentence about the page and whether what it shows fits."""
        shop, asin = self._shop, label(state.asin)
        if state.page == "search":
            return f"search page. wanted: {keywords(self._goal)}."
        if state.page == "done":
            return f"bought {asin}, score {shop.score(state, self._goal).total:.2f}."
        if state.page == "results":
            fitting = [label(p.asin) for p in shop.shown_hits(state) if self.options_for(p) is not None]
            names = " and ".join(fitting[:_NAMED]) if fitting else "nothing"
            return f"results. {names} {'fit' if len(fitting) > 1 else 'fits'} {wish(self._goal, options=False)}."
        wanted = self.options_for(shop.product(state))
        place = f"{state.section} of {asin}" if state.section else asin
        if wanted is None:
            return f"{place} does not fit."
        missing = [f"{name} {value}" for name, value in wanted.items() if dict(state.options).get(name) != value]
        if missing:
            return f"{place} fits. {printable(' and '.join(missing))} not chosen yet."
        chosen = printable(" and ".join(f"{name} {value}" for name, value in wanted.items()))
        return f"{place} fits. {chosen} chosen." if chosen else f"{place} fits."

    def next_action(self, state: State) -> str | None:
        """The next step of a short way to a score of 1; None on the thank-you page.

        Where nothing scores 1, as with instructions that people wrote, the goal's own product is bought.
        """
        if state.page == "done":
            return None
        if state.page == "search":
            return f"search[{self._query()}]"
        return f"click[{self._from_results(state) if state.page == 'results' else self._from_item(state)}]"

    def _from_item(self, state: State) -> str:
        product = self._shop.product(state)
        wanted = self.options_for(product)
        if wanted is None and product.asin != self._goal.asin:
            return BACK
        if state.page == "section":
            return PREVIOUS
        clicks, chosen = self._shop.clicks(state), dict(state.options)
        for name, value in (self._choose(product) if wanted is None else wanted).items():
            after = clicks.get(label(value))
            if chosen.get(name) != value and after is not None and dict(after.options).get(name) == value:
                return label(value)
        return BUY

    def _query(self) -> str:
        goal = self._goal
        queries = (goal.title, f"{' '.join(goal.attributes)} {goal.query}", goal.instruction)
        printed = [query for query in map(_searchable, queries) if query]
        found = (
            query
            for query in printed
            if any(product.asin == goal.asin for product in self._shop.hits(State("results", query)))
        )
        return next(found, printed[0])

    def _from_results(self, state: State) -> str:
        hits, shown = self._shop.hits(state), self._shop.shown_hits(state)
        for product in shown:
            if self.options_for(product) is not None:
                return label(product.asin)
        rank = next((i for i, product in enumerate(hits) if product.asin == self._goal.asin), None)
        if rank is None:
            return BACK
        page = rank // PAGE_SIZE + 1
        return label(self._goal.asin) if page == state.number else NEXT if page > state.number else PREVIOUS

    def _choose(self, product: Product) -> dict[str, str]:
        """For each wanted option the value of the product that counts as it, rather the very one than a similar one."""
        chosen: dict[str, str] = {}
        for want in self._goal.options:
            values = [(name, value) for name, values in product.options.items() for value in values]
            exact = [(name, value) for name, value in values if value == want]
            similar = [(n, v) for n, v in values if same(normalize_color(v), normalize_color(want))]
            free = [(name, value) for name, value in (*exact, *similar) if name not in chosen]
            if free:
                chosen[free[0][0]] = free[0][1]
        return chosen


def wish(goal: Goal, *, options: bool = True) -> str:
    """The goal in as few words as can be, such as "red clay mug, size large, under 20", with or without its options."""
    if goal.written:
        return printable(goal.instruction.replace(_PRICE, ", under "))
    words = [" ".join((*goal.attributes, goal.query))]
    if options:
        words += [f"{name} {value}" for name, value in zip(goal.option_names, goal.options, strict=True)]
    if goal.has_price_limit:
        words.append(f"under {dollars(goal.price_upper).removeprefix('$')}")
    return printable(", ".join(words))


def _searchable(text: str) -> str:
    """A text as search words: in small letters, without the brackets that end an action, no longer than may be."""
    return " ".join(re.sub(r"[\[\]]", " ", label(text)).split())[:MAX_QUERY_CHARACTERS].strip()


def keywords(goal: Goal) -> str:
    """Words to search for: the kind of product where the instruction names it, else its words without common ones."""
    instruction = label(goal.instruction.lower().split(_PRICE)[0])
    kind = printable(goal.query)
    if kind and not set("[]") & set(kind) and set(kind.split()) <= set(instruction.split()):
        return kind[:MAX_QUERY_CHARACTERS]
    words = (word.strip(".,:;!?()[]\"'") for word in instruction.split())
    return " ".join(word for word in words if word and word not in STOP_WORDS)[:MAX_QUERY_CHARACTERS].strip()
