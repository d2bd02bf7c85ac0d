"""The address of a page: its path holds the goal's number and the whole state, so the server keeps nothing."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from envs.webshop.shop import HITS, MAX_QUERY_CHARACTERS, PAGE_SIZE, Shop, State
from envs.webshop.text import printable

_OPTION = "option."
_PATH = re.compile(r"/(\d{1,9})/(search|results|item|done|description|features|reviews)")
_LONGEST_FIELD = 1024
_NUMBER = re.compile(r"[1-9]\d{0,2}")


def to_address(goal: int, state: State) -> str:
    """Path and query of a page.

    Args:
        goal: its number in the shop.
        state: what the page shows.
    """
    path = f"/{goal}/{state.section or state.page}"
    if state.page == "search":
        return path
    fields = [("q", state.query), ("page", str(state.number))]
    if state.asin:
        fields.append(("asin", state.asin))
    fields += [(_OPTION + name, value) for name, value in state.options]
    return f"{path}?{urlencode(fields, quote_via=quote)}"


def from_address(address: str, shop: Shop) -> tuple[int, State] | None:
    """Goal and state of an address, or None where the shop has no such page.

    Nothing of an address is taken on trust: goal, item and options have to exist and the page of results to hold
    something, unless it is the first.
    """
    try:
        parts = urlsplit(address)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=64)
    except ValueError:  # such as "http://[::1"
        return None
    match = _PATH.fullmatch(parts.path)
    fields = dict(pairs)
    if match is None or int(match[1]) >= len(shop.goals) or len(fields) != len(pairs):
        return None
    goal, page = int(match[1]), match[2]
    if page == "search":
        return None if fields else (goal, State())
    state = _state(page, fields, shop)
    return None if state is None else (goal, state)


def _state(page: str, fields: dict[str, str], shop: Shop) -> State | None:
    query = printable(fields.pop("q", "")[:_LONGEST_FIELD]).lower()
    number, asin = fields.pop("page", "1"), fields.pop("asin", "")
    if not 0 < len(query) <= MAX_QUERY_CHARACTERS or not _NUMBER.fullmatch(number) or int(number) > HITS // PAGE_SIZE:
        return None
    state = State("results", query, int(number))
    if page == "results":
        return None if asin or fields or not _holds_something(shop, state) else state
    if asin not in shop.catalogue.by_asin or not all(name.startswith(_OPTION) for name in fields):
        return None
    options = {name.removeprefix(_OPTION): value for name, value in fields.items()}
    offered = shop.catalogue.by_asin[asin].options
    if any(value not in offered.get(name, ()) for name, value in options.items()):
        return None
    chosen = tuple(sorted(options.items()))
    if page in ("item", "done"):
        return State(page, query, int(number), asin, chosen)  # type: ignore[arg-type]  # one of the two literals
    return State("section", query, int(number), asin, chosen, page) if page in shop.catalogue.sections else None


def _holds_something(shop: Shop, state: State) -> bool:
    return state.number == 1 or bool(shop.shown_hits(state))
