from __future__ import annotations

import math
import random
import string
from dataclasses import replace

import pytest

from envs.webshop.products import Catalogue, Instruction, Product
from envs.webshop.search import SearchIndex, document
from envs.webshop.shop import MAX_ACTION_CHARACTERS, MAX_QUERY_CHARACTERS, Shop, State, open_shop, parse
from envs.webshop.text import printable, shorten

SMALL = open_shop("small", "synthetic")
DEFAULT = open_shop("default", "synthetic")


def walk(shop: Shop, *actions: str, state: State | None = None) -> State:
    state = State() if state is None else state
    for action in actions:
        after = shop.follow(state, action)
        assert after is not None, (state, action)
        state = after
    return state


def product(asin: str = "B1", **changes: object) -> Product:
    plain = Product(
        asin=asin,
        title="cup",
        category="home",
        query="cup",
        product_category="home › cup",
        description="",
        bullet_points=(),
        attributes=("round",),
        price=5.0,
        instructions=(Instruction("a round cup", ("round",)),),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def shop_of(*products: Product) -> Shop:
    return Shop(Catalogue("test", (*products, product("B8", title="pot"), product("B9", title="pan"))))


def test_the_way_through_the_shop() -> None:
    state = walk(DEFAULT, "search[Merino t-shirt, mug]")
    assert (state.page, state.query, state.number) == ("results", "merino t-shirt, mug", 1)
    assert len(DEFAULT.hits(state)) == 50
    assert len(DEFAULT.shown_hits(state)) == 10
    asins = [hit.asin.lower() for hit in DEFAULT.shown_hits(state)]
    assert list(DEFAULT.clicks(state)) == [*asins, "back to search", "next >"]
    second = walk(DEFAULT, "click[next >]", state=state)
    assert second.number == 2
    assert not {hit.asin.lower() for hit in DEFAULT.shown_hits(second)} & set(asins)
    assert walk(DEFAULT, "click[< prev]", state=second) == state
    last = walk(DEFAULT, *["click[next >]"] * 4, state=state)
    assert "next >" not in DEFAULT.clicks(last)
    assert "< prev" in DEFAULT.clicks(last)
    item = walk(DEFAULT, f"click[{asins[3]}]", state=state)
    assert (item.page, item.asin.lower(), item.options) == ("item", asins[3], ())
    shown = DEFAULT.product(item)
    assert set(DEFAULT.clicks(item)) == {
        *(value for values in shown.options.values() for value in values),
        *("back to search", "< prev", "description", "features", "reviews", "buy now"),
    }
    sizes = shown.options["size"]
    item = walk(DEFAULT, f"click[{sizes[0]}]", f"click[{sizes[2]}]", state=item)
    assert item.options == (("size", sizes[2]),)  # one of a group
    for section in ("description", "features", "reviews"):
        page = walk(DEFAULT, f"click[{section}]", state=item)
        assert (page.page, page.section, page.options) == ("section", section, item.options)
        assert set(DEFAULT.clicks(page)) == {"back to search", "< prev"}
        assert walk(DEFAULT, "click[< prev]", state=page) == item  # what is chosen stays chosen
    assert walk(DEFAULT, "click[< prev]", state=item) == state  # and is forgotten with the item
    assert walk(DEFAULT, "click[back to search]", state=item) == State()
    done = walk(DEFAULT, "click[buy now]", state=item)
    assert (done.page, done.asin, done.options) == ("done", item.asin, item.options)
    assert DEFAULT.clicks(done) == {}
    assert DEFAULT.follow(done, "click[back to search]") is None


def test_the_small_catalogue_is_one_page() -> None:
    state = walk(SMALL, "search[mug or lamp, red or blue]")
    assert len(SMALL.hits(state)) == 8
    assert set(SMALL.clicks(state)) == {*(f"b0{i}" for i in range(1, 9)), "back to search"}
    item = walk(SMALL, "click[b01]", state=state)
    assert set(SMALL.clicks(item)) == {"small", "medium", "large", "back to search", "< prev", "buy now"}


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("search[Red Mug]", ("search", "red mug")),
        ("  SEARCH[ red   mug ] ", ("search", "red mug")),
        ("click[< Prev]", ("click", "< prev")),
        ("click[a]b]", ("click", "a]b")),
        ("search[crème brûlée]", ("search", "creme brulee")),
        *((text, None) for text in ("", "search", "click", "search[]", "click[ ]", "search[x", "x]", "buy now", "[x]")),
        *(
            (text, None)
            for text in (
                "search[a] click[b]x",
                "search[a] search[b]",
                "find[x]",
                "say search[x]",
                "search(x)",
                "search [x]",
            )
        ),
        ("search[" + "x" * MAX_QUERY_CHARACTERS + "]", ("search", "x" * MAX_QUERY_CHARACTERS)),
        ("search[" + "x" * (MAX_QUERY_CHARACTERS + 1) + "]", None),
        ("click[" + "x" * MAX_ACTION_CHARACTERS + "]", None),
        (" " * MAX_ACTION_CHARACTERS + "click[a]", None),
    ],
)
def test_parse(action: str, expected: tuple[str, str] | None) -> None:
    assert parse(action) == expected


def test_what_is_not_on_the_page_cannot_be_done() -> None:
    results = walk(SMALL, "search[mug]")
    item = walk(SMALL, "click[b01]", state=results)
    for state, actions in {
        State(): ["click[search]", "click[b01]", "click[buy now]", "click[back to search]"],
        results: ["search[lamp]", "click[b05]", "click[buy now]", "click[small]", "click[next >]", "click[< prev]"],
        item: ["search[lamp]", "click[b01]", "click[red]", "click[size]", "click[description]", "click[attributes]"],
    }.items():
        assert [SMALL.follow(state, action) for action in actions] == [None] * len(actions)


def test_thousands_of_illegal_answers_raise_nothing() -> None:
    rng = random.Random(0)
    states = [State(), walk(SMALL, "search[mug]"), walk(SMALL, "search[mug]", "click[b01]")]
    pieces = [
        "search[",
        "click[",
        "]",
        "[",
        "buy now",
        "b01",
        "\x00",
        "\n",
        "é",
        "💥",
        "'",
        '"',
        "<script>",
        "%s",
        "{}",
    ]
    for _ in range(5000):
        text = "".join(rng.choice([*pieces, *string.printable]) for _ in range(rng.randint(0, 12)))
        for state in states:
            after = SMALL.follow(state, text)
            assert after is None or parse(text) is not None


def test_search_finds_only_what_holds_a_word_and_keeps_ties_in_order() -> None:
    products = [product(f"B{i}", title=f"{'blue' if i % 2 else 'red'} cup") for i in range(30)]
    index = SearchIndex(products)
    assert [p.asin for p in index.search("red", 50)] == [f"B{i}" for i in range(0, 30, 2)]
    assert [p.asin for p in index.search("RED blue", 50)] == [f"B{i}" for i in range(30)]
    assert len(index.search("cups", 7)) == 7  # words are stemmed
    for nothing in ("chair", "the of", "!!!", ""):
        assert index.search(nothing, 50) == ()


def test_search_is_bm25_with_the_parameters_of_the_released_index() -> None:
    texts = ["red cup", "red red lamp of oak wood", "oak table", "blue chair"]
    index = SearchIndex([product(f"B{i}", title=text) for i, text in enumerate(texts)])
    documents = [document(p).replace(" of ", " ").split() for p in index._products]
    mean = sum(map(len, documents)) / 4

    def bm25(words: list[str]) -> float:
        total = 0.0
        for word in ("red", "oak"):
            df = sum(word in other for other in documents)
            tf = words.count(word)
            idf = math.log(1 + (4 - df + 0.5) / (df + 0.5))
            total += idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * len(words) / mean))
        return total

    ranked = sorted((i for i in range(4) if bm25(documents[i]) > 0), key=lambda i: -bm25(documents[i]))
    assert [p.asin for p in index.search("oak red", 50)] == [f"B{i}" for i in ranked]
    scores = index._index.get_scores(["red", "oak"])
    assert scores.tolist() == pytest.approx([bm25(words) for words in documents], abs=1e-5)


def test_title_description_first_feature_and_options_are_searched() -> None:
    found = product(
        title="alpha",
        description="beta",
        bullet_points=("gamma", "delta"),
        options={"epsilon": ("zeta",)},
        reviews=(),
        attributes=("eta",),
    )
    index = SearchIndex([found, product("B2", title="other")])
    assert [bool(index.search(word, 5)) for word in ("alpha", "beta", "gamma", "epsilon", "zeta")] == [True] * 5
    assert [bool(index.search(word, 5)) for word in ("delta", "eta")] == [False] * 2


def test_buttons_win_over_options_of_the_same_text_and_later_options_over_earlier_ones() -> None:
    shop = shop_of(product(options={"first": ("buy now", "x"), "second": ("x", "É/2")}))
    item = walk(shop, "search[cup]", "click[b1]")
    assert walk(shop, "click[buy now]", state=item).page == "done"
    assert walk(shop, "click[x]", state=item).options == (("second", "x"),)
    assert walk(shop, "click[e/2]", state=item).options == (("second", "É/2"),)


def test_surcharges_are_paid() -> None:
    shop = shop_of(product(options={"size": ("s", "l")}, surcharges={"l": 2.5}))
    item = walk(shop, "search[cup]", "click[b1]")
    assert shop.product(item).shown_price() == "$5"
    large = walk(shop, "click[l]", state=item)
    assert shop.product(large).shown_price(dict(large.options)) == "$7.50"
    goal = replace(shop.goals[0], asin="B1", title="cup", options=(), price_upper=7.0)
    assert shop.score(walk(shop, "click[buy now]", state=item), goal).price is True
    assert shop.score(walk(shop, "click[buy now]", state=large), goal).price is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        (" a\n\tb ", "a b"),
        ("“Crème” – 5′ × 3", '"Creme" - 5\' x 3'),
        ("日本", "??"),
        ("bell\x07 and \x00nul", "bell and nul"),
        ("ﬁne ½", "fine 1?2"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_shorten() -> None:
    assert shorten("short", 5) == "short"
    cut = shorten("x" * 100, 40)
    assert len(cut) == 40
    assert cut.endswith("x ... (100 characters in all)")
