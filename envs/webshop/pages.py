"""The pages of the shop as HTML. They work without scripts: whatever can be clicked is a link, the search a form."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from envs.webshop.addresses import to_address
from envs.webshop.pictures import picture
from envs.webshop.products import Product
from envs.webshop.shop import MAX_QUERY_CHARACTERS, PAGE_SIZE, Shop, State
from envs.webshop.text import label

_TEMPLATES = Path(__file__).with_name("templates")
_PICTURE_SIZE = 280
#: Everything is escaped, whatever a product's text holds.
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    auto_reload=False,
)


def style_sheet() -> bytes:
    """The CSS of all pages."""
    return (_TEMPLATES / "style.css").read_bytes()


@lru_cache(maxsize=512)
def picture_file(kind: str, color: str) -> bytes:
    """A product's picture as a PNG file."""
    file = io.BytesIO()
    picture(kind, color, _PICTURE_SIZE).save(file, "PNG")
    return file.getvalue()


def html(shop: Shop, goal: int, state: State) -> str:
    """The page of a state.

    Args:
        shop: the shop.
        goal: the number of the customer's goal.
        state: what to show.
    """
    values: dict[str, Any] = {
        "state": state,
        "goal": shop.goals[goal],
        "links": {text: to_address(goal, after) for text, after in shop.clicks(state).items()},
    }
    if state.page == "search":
        values.update(
            search_path=f"/{goal}/results",
            longest_query=MAX_QUERY_CHARACTERS,
            product_count=len(shop.catalogue.products),
        )
    elif state.page == "results":
        values.update(_results(shop, state, values["links"]))
    else:
        values.update(_item(shop, state, values["links"]))
        if state.page == "done":
            values["score"] = shop.score(state, shop.goals[goal])
    return _ENVIRONMENT.get_template(f"{state.page}.html").render(values)


def _results(shop: Shop, state: State, links: dict[str, str]) -> dict[str, Any]:
    found = len(shop.hits(state))
    items = [
        {"product": product, "link": links[label(product.asin)], "picture": _picture(product, {})}
        for product in shop.shown_hits(state)
    ]
    return {"found": found, "pages": max(-(-found // PAGE_SIZE), 1), "items": items}


def _item(shop: Shop, state: State, links: dict[str, str]) -> dict[str, Any]:
    product, chosen = shop.product(state), dict(state.options)
    groups = [
        (name, [(value, links.get(label(value)), chosen.get(name) == value) for value in values])
        for name, values in product.options.items()
    ]
    return {
        "product": product,
        "chosen": chosen,
        "groups": groups,
        "sections": shop.catalogue.sections,
        "picture": _picture(product, chosen),
    }


def _picture(product: Product, options: dict[str, str]) -> str:
    return f"/picture/{quote(product.picture, safe='')}/{quote(product.shown_color(options), safe='')}.png"
