"""The released files of WebShop (https://github.com/princeton-nlp/WebShop, `setup.sh`), as they are.

A directory holds `items_shuffle*.json` (a list of products), `items_ins_v2*.json` (attributes and synthetic
instructions by product id) and, for human goals, `items_human_ins.json` (instructions that people wrote, by product
id). `reviews.json`, which not every release has, is read where it is present. What is done with each field follows the
released `engine.py`, but for one thing: where a product has a range of prices, the released shop draws its price anew
at every start, while here a product always has the same price.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envs.webshop.products import Catalogue, Instruction, Product, Review

_LONGEST_ASIN = 10
_NO_PRICE = 100.0
_AMOUNT = re.compile(r"\d+(\.\d+)?")


class FileError(ValueError):
    """A released file that is not what it should be. The message is one line."""


def catalogue(directory: Path) -> Catalogue:
    """The products of a directory in the order of their file.

    Products whose id is "nan" or longer than ten letters, and repetitions of an id, are left out as in the released
    shop.

    Raises:
        FileError: a file is missing, or not what it should be.
    """
    items = _find(directory, "items_shuffle*.json")
    attributes = _read(_find(directory, "items_ins_v2*.json"), dict)
    human_file, reviews_file = directory / "items_human_ins.json", directory / "reviews.json"
    human = _read(human_file, dict) if human_file.exists() else {}
    reviews = {entry["asin"]: entry for entry in _read(reviews_file, list)} if reviews_file.exists() else {}
    products: dict[str, Product] = {}
    for number, row in enumerate(_read(items, list)):
        where = f"{items}: product {number}"
        if not isinstance(row, dict):
            raise FileError(f"{where} is not an object; the file has to be WebShop's, unchanged")
        asin = _text(row, "asin", where)
        if asin == "nan" or not 0 < len(asin) <= _LONGEST_ASIN or asin in products:
            continue
        products[asin] = _product(
            asin,
            row,
            attributes=attributes.get(asin) or {},
            human=human.get(asin) or [],
            reviews=reviews.get(asin) or {},
            where=where,
        )
    if not products:
        raise FileError(f"{items} holds no products")
    return Catalogue(str(directory), tuple(products.values()), tagger="spacy")


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
    amounts = [re.sub(r"[^\d.]", "", part) for part in str(pricing or "").split("$")[1:]]
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
        wanted = tuple(_texts(entry.get("instruction_attributes"), "instruction_attributes", where))
        options = entry.get("instruction_options") or ()
        values = options.values() if isinstance(options, dict) else options
        if wanted:
            yield Instruction(
                _text(entry, "instruction", where), wanted, tuple(_texts(list(values), "instruction_options", where))
            )


def _reviews(entry: Mapping[str, Any]) -> Iterator[Review]:
    for review in entry.get("reviews") or ():
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
