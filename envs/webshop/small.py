"""A catalogue of one page, for models of a few million parameters."""

from __future__ import annotations

from envs.webshop.products import Catalogue, Instruction, Product

_SIZES = ("small", "medium", "large")
#: (color, material, kind, dollars). For every wish there is something near that fails it by one word or by the price:
#: the limit of a goal is at most $40 above the price of its product.
_PRODUCTS = (
    ("red", "clay", "mug", 12),
    ("blue", "steel", "mug", 15),
    ("red", "steel", "mug", 65),
    ("blue", "clay", "mug", 58),
    ("blue", "glass", "lamp", 18),
    ("red", "wood", "lamp", 14),
    ("blue", "wood", "lamp", 72),
    ("red", "glass", "lamp", 66),
)


def catalogue() -> Catalogue:
    """Eight products of two kinds with one group of options, and no further pages behind them."""
    products = tuple(_product(i, *row) for i, row in enumerate(_PRODUCTS, start=1))
    return Catalogue("small", products, sections=(), every_limit=True)


def _product(number: int, color: str, material: str, kind: str, price: int) -> Product:
    wishes = ((color, material), (color,), (material,))
    return Product(
        asin=f"B{number:02d}",
        title=f"{color} {material} {kind}",
        category="home",
        query=kind,
        product_category=f"home › {kind}",
        description="",
        bullet_points=(),
        attributes=(color, material),
        price=float(price),
        options={"size": _SIZES},
        instructions=tuple(Instruction(" ".join((*wish, kind)), wish) for wish in wishes),
        picture=kind,
        color=color,
    )
