"""The shop's search engine: BM25 as Lucene computes it, with the parameters of the released index."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence

import bm25s
import numpy as np
import Stemmer

from envs.webshop.products import Product
from envs.webshop.text import printable, word_list

#: Anserini's parameters of BM25, which the released shop searches with.
_K1, _B = 0.9, 0.4
logging.getLogger("bm25s").setLevel(logging.WARNING)  # the package turns on its debugging messages for everybody
_WORD = re.compile(r"[^\W_]+")
#: Lucene's English stop words.
STOP_WORDS = frozenset(word_list("stop_words"))


def document(product: Product) -> str:
    """What is searched of a product: its title, description, first feature and options."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    return printable(" ".join((product.title, product.description, *product.bullet_points[:1], options))).lower()


class SearchIndex:
    """Ranks products for search words; equally good ones keep their order.

    Args:
        products: in the order of the catalogue.
    """

    def __init__(self, products: Sequence[Product]) -> None:
        self._products = products
        self._lock = threading.Lock()  # a stemmer serves one thread at a time
        self._stem = Stemmer.Stemmer("porter").stemWords
        self._index = bm25s.BM25(method="lucene", k1=_K1, b=_B)
        self._index.index([self._tokens(document(product)) for product in products], show_progress=False)

    def search(self, query: str, limit: int) -> tuple[Product, ...]:
        """The best `limit` of the products that hold at least one of the words, best first."""
        with self._lock:
            tokens = self._tokens(printable(query).lower())
        known = [token for token in tokens if token in self._index.vocab_dict]
        if not known:
            return ()
        scores = self._index.get_scores(known)
        order = np.argsort(-scores, kind="stable")[:limit]
        return tuple(self._products[i] for i in order if scores[i] > 0)

    def _tokens(self, text: str) -> list[str]:
        return list(self._stem([word for word in _WORD.findall(text) if word not in STOP_WORDS]))
