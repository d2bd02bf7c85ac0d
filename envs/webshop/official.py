"""The released files of WebShop (https://github.com/princeton-nlp/WebShop, `setup.sh`), as they are.

A directory holds `items_shuffle*.json` (a list of products), `items_ins_v2*.json` (attributes and synthetic
instructions by product id) and, for human goals, `items_human_ins.json` (instructions that people wrote, by product
id). `reviews.json`, which not every release has, is read where it is present. What is done with each field follows the
released `engine.py`, but for one thing: where a product has a range of prices, the released shop draws its price anew
at every start, while here a product always has the same price.
"""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envs.webshop.products import Catalogue, CatalogueError, Instruction, Product, Review

_log = logging.getLogger(__name__)

_LONGEST_ASIN = 10
_NO_PRICE = 100.0
#: As `decimal.Decimal` takes them, which the released shop calls: "12", "12.5", "12." and ".99".
_AMOUNT = re.compile(r"(?a:\d+\.?\d*|\.\d+)")
#: Products that may be left out as unreadable whatever their share, and the share of the whole file.
_MOST_SKIPPED, _SKIPPED_SHARE = 4, 0.1


class FileError(CatalogueError):
    """A released file that is not what it should be. The message is one line."""


def catalogue(directory: Path) -> Catalogue:
    """The products of a directory in the order of their file.

    Products whose id is "nan" or longer than ten letters, and repetitions of an id, are left out as in the released
    shop. Single products that cannot be read, at which the released shop stops, are left out with a warning.

    Raises:
        FileError: a file is missing, or not what it should be: more than a tenth of the products cannot be read, and
            more than a few, or half of them.
    """
    items = _find(directory, "items_shuffle*.json")
    attributes = _read(_find(directory, "items_ins_v2*.json"), dict)
    human_file, reviews_file = directory / "items_human_ins.json", directory / "reviews.json"
    human = _read(human_file, dict) if human_file.exists() else {}
    entries = _read(reviews_file, list) if reviews_file.exists() else []
    reviews = {str(entry.get("asin")): entry for entry in entries if isinstance(entry, dict)}
    products: dict[str, Product] = {}
    faults: list[FileError] = []
    rows = _read(items, list)
    for number, row in enumerate(rows):
        where = f"{items}: product {number}"
        try:
            if not isinstance(row, dict):
                raise FileError(f"{where} is not an object; the file has to be WebShop's, unchanged")  # noqa: TRY301  # counted like every other fault
            asin = _text(row, "asin", where)
            if asin == "nan" or not 0 < len(asin) <= _LONGEST_ASIN or asin in products:
                continue
            products[asin] = _product(
                asin,
                row,
                attributes=_entry(attributes.get(asin), dict, "items_ins_v2", where),
                human=_entry(human.get(asin), list, "items_human_ins", where),
                reviews=_entry(reviews.get(asin), dict, "reviews", where),
                where=where,
            )
        except FileError as error:
            faults.append(error)
    if faults:
        if len(faults) >= len(products) or len(faults) > max(_MOST_SKIPPED, _SKIPPED_SHARE * len(rows)):
            raise faults[0]
        _log.warning("%s: %d of %d products are left out, such as: %s", items, len(faults), len(rows), faults[0])
    if not products:
        raise FileError(f"{items} holds no products")
    return Catalogue(str(directory), tuple(products.values()), tagger="spacy")


def _entry(value: Any, kind: type, name: str, where: str) -> Any:
    """What another file says of a product, empty where it says nothing."""
    if not value:
        return kind()
    if not isinstance(value, kind):
        raise FileError(f"{where}: {name} holds {value!r:.80} for it, not {'a list' if kind is list else 'an object'}")
    return value


def _product(
    asin: str,
    row: Mapping[str, Any],
    *,
    attributes: Mapping[str, Any],
    human: list[Mapping[str, Any]],
    reviews: Mapping[str, Any],
    where: str,
) -> Product:
    prices = _prices(row.get("pricing"), where)
    points = row.get("small_description")
    rating = reviews.get("average_rating")
    return Product(
        asin=asin,
        title=_text(row, "name", where),
        category=_text(row, "category", where),
        query=_text(row, "query", where).lower().strip(),
        product_category=_text(row, "product_category", where),
        description=_text(row, "full_description", where, empty=True),
        bullet_points=tuple(str(point) for point in (points if isinstance(points, list) else [points]) if point),
        attributes=tuple(_texts(attributes.get("attributes"), "attributes", where)) or ("DUMMY_ATTR",),
        price=prices[0] if len(prices) == 1 else random.Random(asin).uniform(*prices[:2]),
        price_text=" to ".join(f"${price}" for price in prices[:2]),
        options=dict(_options(row.get("customization_options"), where)),
        reviews=tuple(_reviews(reviews)),
        rating="N.A." if rating is None else str(rating),
        instructions=tuple(_instructions(attributes, where)),
        human_instructions=tuple(_human_instructions(human, where)),
    )


def _prices(pricing: Any, where: str) -> list[float]:
    """The dollars in a text such as "$12.99" or "$10.00$15.00"; 100 where there are none."""
    amounts = [re.sub(r"[^0-9.]", "", part) for part in str(pricing or "").split("$")[1:]]
    for amount in amounts:
        if not _AMOUNT.fullmatch(amount):
            raise FileError(f"{where}: pricing is {pricing!r}, which holds no prices in dollars")
    return [float(amount) for amount in amounts] or [_NO_PRICE]


def _options(groups: Any, where: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not groups:
        return
    if not isinstance(groups, dict):
        raise FileError(f"{where}: customization_options is not an object")
    for name, contents in groups.items():
        if contents is None:
            continue
        if not isinstance(contents, list) or not all(isinstance(c, dict) and "value" in c for c in contents):
            raise FileError(f"{where}: customization_options of {name!r} is not a list of objects with a value")
        values = [str(content["value"]).strip().replace("/", " | ").lower() for content in contents]
        yield name.lower(), tuple(dict.fromkeys(values))


def _instructions(attributes: Mapping[str, Any], where: str) -> Iterator[Instruction]:
    text = attributes.get("instruction")
    if text:
        wanted = tuple(_texts(attributes.get("instruction_attributes"), "instruction_attributes", where))
        if not wanted:
            raise FileError(f"{where}: its instruction in items_ins_v2 asks for no attributes")
        yield Instruction(str(text), wanted)


def _human_instructions(entries: list[Mapping[str, Any]], where: str) -> Iterator[Instruction]:
    """Instructions without attributes are left out, as in the released shop."""
    for entry in entries:
        if not isinstance(entry, dict):
            raise FileError(f"{where}: items_human_ins holds {entry!r:.80} for it, not an object")
        wanted = tuple(_texts(entry.get("instruction_attributes"), "instruction_attributes", where))
        options = entry.get("instruction_options") or ()
        values = options.values() if isinstance(options, dict) else options
        if not isinstance(options, (dict, list, tuple)):
            raise FileError(f"{where}: instruction_options is {options!r:.80}, not a list of texts")
        if wanted:
            yield Instruction(
                _text(entry, "instruction", where), wanted, tuple(_texts(list(values), "instruction_options", where))
            )


def _reviews(entry: Mapping[str, Any]) -> Iterator[Review]:
    reviews = entry.get("reviews")
    for review in reviews if isinstance(reviews, list) else ():
        if not isinstance(review, dict):
            continue
        stars = str(review.get("score", review.get("stars", "")))
        amount = _AMOUNT.match(stars)
        yield Review(
            stars=min(float(amount[0]), 5.0) if amount else 0.0,
            title=str(review.get("title") or ""),
            body=str(review.get("body") or review.get("review") or ""),
        )


def _text(row: Mapping[str, Any], key: str, where: str, *, empty: bool = False) -> str:
    value = row.get(key)
    if isinstance(value, str):
        return value
    if empty and (value is None or value != value):  # noqa: PLR0124  # missing texts are written as NaN
        return ""
    raise FileError(f"{where}: {key} is {value!r}, not a text; the file has to be WebShop's, unchanged")


def _texts(values: Any, key: str, where: str) -> list[str]:
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise FileError(f"{where}: {key} is {values!r}, not a list of texts")
    return values


def _find(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileError(f"{directory} has to hold one file {pattern}, found {names}; see WebShop's setup.sh")
    return found[0]


def _read(path: Path, kind: type) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, kind):
        raise FileError(
            f"{path} has to hold {'a list' if kind is list else 'an object'}; it must be WebShop's, unchanged"
        )
    return content
