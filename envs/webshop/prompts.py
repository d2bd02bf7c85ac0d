"""What the model reads: the instruction, the page as text, the accepted actions and the answer format."""

from __future__ import annotations

from collections.abc import Sequence

from envs.base import MAX_PROMPT_CHARACTERS, PromptStyle, answer_format
from envs.templates import list_actions
from envs.webshop.buyer import wish
from envs.webshop.goals import Goal
from envs.webshop.products import Product
from envs.webshop.shop import PAGE_SIZE, Shop, State
from envs.webshop.text import label, printable, shorten

_RULES = (
    "You shop in an online store for somebody who wants one product.\n"
    "The images are the latest pictures of the store, oldest first; the text of the page that is open now is below.\n"
    "On the search page, search[words] looks for products. Everywhere else you click on what the page offers: an item "
    "id opens the item, an option value chooses it, {sections}"
    '"< prev" and "next >" turn pages, "back to search" starts a new search. click[buy now] buys the item with the '
    "options that are chosen and ends the task, so first make sure that the kind of product, its attributes, every "
    "option and the price are as wanted."
)
_FORMAT = (
    "Say briefly what the page shows and what follows from it, then choose one action. "
    f"Answer with one JSON object and nothing else: {answer_format()}"
)
_MOST_INSTRUCTION, _MOST_TERSE = 1024, 1024


def prompt(style: PromptStyle, shop: Shop, state: State, goal: Goal, actions: Sequence[str]) -> str:
    """The prompt for a page, at most `MAX_PROMPT_CHARACTERS` characters of printable ASCII.

    Long descriptions, and lists of more options than can be told, are cut with a note of what is left out.
    """
    if style == "terse":
        view = state_text(style, shop, state, goal)
        return f"want {instruction(style, goal)}. {view}. actions: {_list_actions(actions)}."
    sections = shop.catalogue.sections
    rules = _RULES.format(sections=f"{', '.join(sections)} tell more about the item, " if sections else "")
    head = f"{rules}\nInstruction: {instruction(style, goal)}\n"
    tail = f"\nPossible actions: {_list_actions(actions)}.\n{_FORMAT}"
    return head + state_text(style, shop, state, goal, MAX_PROMPT_CHARACTERS - len(head) - len(tail)) + tail


def instruction(style: PromptStyle, goal: Goal) -> str:
    """What is to be bought."""
    return shorten(wish(goal) if style == "terse" else printable(goal.instruction), _MOST_INSTRUCTION)


def state_text(style: PromptStyle, shop: Shop, state: State, goal: Goal, most: int = MAX_PROMPT_CHARACTERS) -> str:
    """The page in words, in at most so many characters."""
    if style == "terse":
        return shorten(_terse_view(shop, state, goal), min(most, _MOST_TERSE))
    return shorten(_full_view(shop, state, goal), most)


def _list_actions(actions: Sequence[str]) -> str:
    return list_actions(actions, "more clicks on what the page names") or "none"


def _full_view(shop: Shop, state: State, goal: Goal) -> str:
    if state.page == "search":
        return "Page: search page. It holds a search bar."
    if state.page == "results":
        hits, shown = shop.hits(state), shop.shown_hits(state)
        pages = max(-(-len(hits) // PAGE_SIZE), 1)
        found = f'Page: results for "{state.query}", page {state.number} of {pages}, {len(hits)} found.'
        return "\n".join([found, *(f"[{_asin(p)}] {printable(p.title)} | {p.shown_price()}" for p in shown)])
    product, chosen = shop.product(state), dict(state.options)
    if state.page == "done":
        return f"Page: thank you for buying {_asin(product)}. Score: {shop.score(state, goal).total:.2f}."
    if state.page == "section":
        title = f"[{_asin(product)}] {printable(product.title)}"
        return f"Page: {state.section} of {title}\n{section_text(product, state.section)}"
    lines = [
        f"Page: item [{_asin(product)}] {printable(product.title)}",
        f"Price: {product.shown_price(chosen)} | Rating: {printable(product.rating)}",
    ]
    for name, values in product.options.items():
        marked = (f"{printable(v)} (chosen)" if chosen.get(name) == v else printable(v) for v in values)
        lines.append(f"{printable(name)}: {' | '.join(marked)}")
    return "\n".join(lines)


def section_text(product: Product, name: str) -> str:
    """What a section of an item says, in lines of printable ASCII."""
    if name == "description":
        return printable(product.description) or "(none)"
    if name == "features":
        return "\n".join(f"- {printable(point)}" for point in product.bullet_points) or "(none)"
    return (
        "\n".join(f"{r.stars:g} stars: {printable(r.title)}. {printable(r.body)}" for r in product.reviews) or "(none)"
    )


def _terse_view(shop: Shop, state: State, goal: Goal) -> str:
    if state.page == "search":
        return "search page"
    if state.page == "results":
        found = "; ".join(f"{_asin(p)} {printable(p.title)} {p.shown_price()}" for p in shop.shown_hits(state))
        return f"results: {found or 'none'}"
    product, chosen = shop.product(state), dict(state.options)
    if state.page == "done":
        return f"bought {_asin(product)}, score {shop.score(state, goal).total:.2f}"
    item = f"{_asin(product)} {printable(product.title)} {product.shown_price(chosen)}"
    if state.page == "section":
        return f"{state.section} of {item}: {' '.join(section_text(product, state.section).split())}"
    options = ", ".join(printable(f"{name} {value}") for name, value in chosen.items())
    return f"item {item}. chosen: {options or 'none'}"


def _asin(product: Product) -> str:
    return label(product.asin)
