"""The rules of the shop: which page follows which action. There is no HTTP here; pages are views of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

from envs.webshop import catalogues
from envs.webshop.goals import Goal, make_goals
from envs.webshop.nouns import nouns_of
from envs.webshop.products import Catalogue, CatalogueError, Product, Tagger
from envs.webshop.reward import Score, score
from envs.webshop.search import SearchIndex
from envs.webshop.text import label, printable

HITS, PAGE_SIZE = 50, 10
MAX_QUERY_CHARACTERS, MAX_ACTION_CHARACTERS = 256, 1024
BACK, PREVIOUS, NEXT, BUY = "back to search", "< prev", "next >", "buy now"

#: Words to search for hold no brackets, so that two actions in a row are not one search.
_ACTION = re.compile(r"(search)\[([^\[\]]*)\]|(click)\[(.*)\]", re.IGNORECASE)


@dataclass(frozen=True)
class State:
    """Where in the shop a customer is; everything that a page shows follows from it and the goal.

    Attributes:
        page: the search page, a page of results, an item, one of the item's sections, or the thank-you page.
        query: the words searched for.
        number: of the page of results, from 1.
        asin: the item.
        options: the chosen (group, value) pairs, in the order of the groups' names.
        section: which section of the item.
    """

    page: Literal["search", "results", "item", "section", "done"] = "search"
    query: str = ""
    number: int = 1
    asin: str = ""
    options: tuple[tuple[str, str], ...] = ()
    section: str = ""


class Shop:
    """A catalogue with its search engine and goals.

    Args:
        catalogue: the products.
        goals: which goals customers have.
        tagger: which nouns of a title count for the reward, see `nouns`; None takes the catalogue's.

    Raises:
        CatalogueError: there are too few goals for training and tests.
        SimulatorError: the tagger is not installed, or cannot be loaded.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        goals: Literal["synthetic", "human"] = "synthetic",
        tagger: Tagger | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.goals = make_goals(catalogue, goals)
        if len(self.goals) < 2:
            raise CatalogueError(
                f"the catalogue {catalogue.name} makes {len(self.goals)} {goals} goals where 2 are needed; human goals "
                'come with the released items_human_ins.json only, all else takes goals="synthetic"'
            )
        self.tagger: Tagger = tagger or catalogue.tagger
        self.nouns = nouns_of(self.tagger)
        self._cached_hits = lru_cache(maxsize=4096)(self._search)
        self._cached_clicks = lru_cache(maxsize=16384)(self._clicks)

    @cached_property
    def _index(self) -> SearchIndex:
        return SearchIndex(self.catalogue.products)

    def hits(self, state: State) -> tuple[Product, ...]:
        """All that the search of this state found, best first, 50 at most."""
        return self._cached_hits(state.query)

    def shown_hits(self, state: State) -> tuple[Product, ...]:
        """The ten or fewer on this page of results."""
        return self.hits(state)[(state.number - 1) * PAGE_SIZE : state.number * PAGE_SIZE]

    def product(self, state: State) -> Product:
        """The item of this state."""
        return self.catalogue.by_asin[state.asin]

    def clicks(self, state: State) -> Mapping[str, State]:
        """What can be clicked, as its text in small letters, and where that leads.

        Unlike in the released shop, "next >" is there only where a next page is.
        """
        return self._cached_clicks(state)

    def follow(self, state: State, action: str) -> State | None:
        """The state that an action leads to, or None where it names nothing that can be done here.

        Args:
            state: where the customer is.
            action: "search[words]", on the search page only, or "click[text]". Case and extra spaces do not count.
        """
        parsed = parse(action)
        if parsed is None:
            return None
        verb, argument = parsed
        if verb == "search":
            return State("results", argument) if state.page == "search" else None
        return self.clicks(state).get(argument)

    def score(self, state: State, goal: Goal) -> Score:
        """What buying the item of this state with its options is worth."""
        product, options = self.product(state), dict(state.options)
        return score(product, goal, product.price_with(options), options.values(), self.nouns)

    def _search(self, query: str) -> tuple[Product, ...]:
        return self._index.search(query, HITS)

    def _clicks(self, state: State) -> dict[str, State]:
        if state.page in ("search", "done"):
            return {}
        links = {BACK: State()}
        if state.page == "results":
            if state.number > 1:
                links[PREVIOUS] = replace(state, number=state.number - 1)
            if state.number * PAGE_SIZE < len(self.hits(state)):
                links[NEXT] = replace(state, number=state.number + 1)
            items = {
                label(product.asin): replace(state, page="item", asin=product.asin)
                for product in self.shown_hits(state)
            }
            return {**items, **links}
        if state.page == "section":
            return {**links, PREVIOUS: replace(state, page="item", section="")}
        links[PREVIOUS] = replace(state, page="results", asin="", options=())
        links.update({name: replace(state, page="section", section=name) for name in self.catalogue.sections})
        links[BUY] = replace(state, page="done")
        chosen = dict(state.options)
        options = {
            label(value): replace(state, options=tuple(sorted({**chosen, name: value}.items())))
            for name, values in self.product(state).options.items()
            for value in values
        }
        # Of an option and a button with the same text the button is clicked, and of two options the later one.
        return {**{text: after for text, after in options.items() if text}, **links}


def parse(action: str) -> tuple[str, str] | None:
    """The verb and the argument, in small letters, of "search[words]" or "click[text]"; None for anything else."""
    if len(action) > MAX_ACTION_CHARACTERS:
        return None
    match = _ACTION.fullmatch(printable(action))
    if match is None:
        return None
    verb, argument = ("search", match[2]) if match[1] else ("click", match[4])
    argument = argument.strip().lower()
    return (verb, argument) if argument and (verb == "click" or len(argument) <= MAX_QUERY_CHARACTERS) else None


@lru_cache(maxsize=8)
def open_shop(catalogue: str, goals: Literal["synthetic", "human"], tagger: Tagger | None = None) -> Shop:
    """The shop of a catalogue, one for all environments of a process; see `catalogues.load` and `Shop`."""
    return Shop(catalogues.load(catalogue), goals, tagger)
