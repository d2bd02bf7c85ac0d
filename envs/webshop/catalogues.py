"""Catalogues by name."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from envs.webshop import official, small, synthetic
from envs.webshop.products import Catalogue, CatalogueError


@lru_cache(maxsize=4)
def load(name: str) -> Catalogue:
    """A catalogue: "default", "small", or a directory with the released files.

    Raises:
        CatalogueError: there is no such catalogue, or its files are not what they should be.
    """
    if name == "default":
        return synthetic.catalogue()
    if name == "small":
        return small.catalogue()
    if not Path(name).is_dir():
        raise CatalogueError(
            f'catalogue is {name!r}; it must be "default", "small" or a directory with the files of WebShop '
            "(items_shuffle*.json, items_ins_v2*.json, items_human_ins.json)"
        )
    return official.catalogue(Path(name))
