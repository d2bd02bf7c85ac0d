from __future__ import annotations

import http.client
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from envs.webshop import pages
from envs.webshop.addresses import from_address, to_address
from envs.webshop.products import Catalogue, Instruction, Product, Review
from envs.webshop.server import HOST, ShopServer
from envs.webshop.shop import Shop, State, open_shop

SHOP = open_shop("default", "synthetic")
EVIL = '<script>alert("1")</script>\'"&{{ 7*7 }}'
EVIL_SHOP = Shop(
    Catalogue(
        "evil",
        (
            Product(
                asin='<B>"1',
                title=EVIL,
                category=EVIL,
                query=EVIL,
                product_category=EVIL,
                description=EVIL,
                bullet_points=(EVIL,),
                attributes=("script",),
                price=5.0,
                price_text=EVIL,
                options={EVIL: (EVIL.lower(), "b?&#/é")},
                reviews=(Review(4.0, EVIL, EVIL),),
                rating=EVIL,
                instructions=(Instruction(EVIL, ("script",)),),
                picture="../../etc/passwd",
                color=EVIL,
            ),
        ),
    )
)


class Links(HTMLParser):
    """The addresses of links by their text, and everything that a page loads or runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.form: str | None = None
        self._open: tuple[str, list[str]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.attributes.update(values)
        if tag == "a":
            self._open = values["href"], []
        elif tag == "form":
            self.form = values["action"]
        self.loads += [values[name] for name in ("src", "href") if name in values and tag != "a"]

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open[1].append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._open is not None:
            words = " ".join("".join(self._open[1]).split()).lower()
            self.links[words] = self._open[0]
            self._open = None


def some_states(shop: Shop, count: int, *, query: str = "merino wool backpack mug") -> list[State]:
    rng = random.Random(0)
    states = []
    state = State()
    for _ in range(count):
        states.append(state)
        if state.page == "search":
            state = State("results", query)
        else:
            state = rng.choice([*shop.clicks(state).values()] or [State()])
    return states


@pytest.mark.parametrize("shop", [SHOP, EVIL_SHOP, open_shop("small", "synthetic")], ids=["default", "evil", "small"])
def test_an_address_holds_the_whole_state(shop: Shop) -> None:
    pages_seen = set()
    for number, state in enumerate(some_states(shop, 400, query="script mug backpack")):
        goal = number % len(shop.goals)
        address = to_address(goal, state)
        assert from_address(address, shop) == (goal, state)
        assert address.isascii()
        assert " " not in address
        pages_seen.add(state.section or state.page)
    assert {"search", "results", "item"} <= pages_seen


ITEM = "q=mug&page=1&asin=W0001"


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/x/search",
        "/0/nothing",
        "/-1/search",
        "/999999/search",
        "/0/search?q=mug",
        "/0/search/",
        "/0/results",
        "/0/results?q=",
        "/0/results?q=mug&page=0",
        "/0/results?q=mug&page=6",
        "/0/results?q=mug&page=x",
        "/0/results?q=nothingofthekind&page=2",
        "/0/results?q=mug&q=mug",
        "/0/results?q=mug&asin=W0001",
        "/0/results?q=mug&more=1",
        "/0/results?q=" + "x" * 257,
        "/0/results?q=a;b&&c",
        "/0/item?q=mug&page=1",
        "/0/item?q=mug&page=1&asin=W9999",
        "/0/item?page=1&asin=W0001",
        f"/0/item?{ITEM}&option.size=huge",
        f"/0/item?{ITEM}&option.price=1",
        f"/0/item?{ITEM}&size=10 oz",
        f"/0/done?{ITEM}&score=1",
        f"/0/attributes?{ITEM}",
        "http://[::1",
        "//[/0/search",
        "/0/item?" + "&".join(f"a{i}=1" for i in range(100)),
    ],
)
def test_addresses_of_nothing(address: str) -> None:
    assert from_address(address, SHOP) is None


def test_pages_that_the_small_catalogue_does_not_have() -> None:
    assert from_address("/0/description?q=mug&page=1&asin=B01", open_shop("small", "synthetic")) is None


@pytest.mark.parametrize("shop", [SHOP, EVIL_SHOP], ids=["default", "evil"])
def test_links_are_the_actions(shop: Shop) -> None:
    """What a person can click on a page is what an agent can click there, and leads to the same page."""
    for state in some_states(shop, 150, query="script merino backpack"):
        found = Links(pages.html(shop, 0, state))
        clicks = shop.clicks(state)
        assert sorted(found.links.values()) == sorted(to_address(0, after) for after in clicks.values())
        for text, address in found.links.items():
            after = from_address(address, shop)
            assert after is not None
            if state.page != "results" or text in clicks:
                assert clicks[text.replace("é", "e")] == after[1]
            else:  # a card: its id, title and price are one link
                assert text.startswith(after[1].asin.lower())
        assert (found.form is not None) == (state.page == "search")
    assert found.tags.isdisjoint({"script", "iframe", "object"})


def test_everything_is_escaped_and_nothing_comes_from_elsewhere() -> None:
    sections = set()
    for state in some_states(EVIL_SHOP, 200, query="<script>alert(1)</script>"):
        text = pages.html(EVIL_SHOP, 0, state)
        found = Links(text)
        assert "<script" not in text.lower()
        assert "49" not in text  # templates do not run what products say
        assert found.tags <= {
            *("html", "head", "meta", "title", "link", "body", "header", "span", "b", "p", "main", "form", "h1", "h2"),
            *("h3", "div", "input", "button", "nav", "a", "ul", "li", "img", "article", "table", "tr", "td"),
        }
        assert not any(name.startswith("on") or name == "style" for name in found.attributes)
        for address in (*found.loads, *found.links.values()):
            assert address == "data:," or urlsplit(address)[:2] == ("", "")
        assert EVIL not in text
        sections.add(state.section or state.page)
    assert {"results", "item", "description", "features", "reviews", "done"} <= sections


@pytest.fixture(scope="module")
def server() -> Iterator[ShopServer]:
    server = ShopServer(SHOP)
    yield server
    server.close()


def get(server: ShopServer, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


@pytest.mark.parametrize("target", ["http://[::1", "http://[::1/0/search", "http://[v]/"])
@pytest.mark.parametrize("host", ["", "elsewhere.example"])
def test_what_is_no_address_is_refused(
    server: ShopServer, target: str, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    host = host or f"{HOST}:{server.port}"
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert capfd.readouterr().err == ""


def test_pages_are_served(server: ShopServer) -> None:
    for state in some_states(SHOP, 30):
        response = get(server, to_address(3, state))
        assert response.status == 200
        assert response.body.decode() == pages.html(SHOP, 3, state)  # type: ignore[attr-defined]
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_what_pages_load_is_there(server: ShopServer) -> None:
    loads = {address for state in some_states(SHOP, 40) for address in Links(pages.html(SHOP, 3, state)).loads}
    assert len(loads) > 5
    for address in loads - {"data:,"}:
        response = get(server, address)
        assert response.status == 200
        assert response.headers["Content-Type"] in ("image/png", "text/css; charset=utf-8")
        if address.endswith(".png"):
            assert response.body.startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_the_first_page_draws_a_goal(server: ShopServer) -> None:
    targets = set()
    for _ in range(4):
        response = get(server, "/")
        assert response.status == 303
        found = from_address(response.headers["Location"], SHOP)
        assert found is not None
        targets.add(found[0])
    assert len(targets) > 1


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_other_hosts_are_refused(server: ShopServer, host: str) -> None:
    response = get(server, to_address(0, State()), Host=host.format(port=server.port))
    assert response.status == 421
    assert b"Wanted" not in response.body  # type: ignore[attr-defined]


def test_localhost_is_this_host(server: ShopServer) -> None:
    assert get(server, to_address(0, State()), Host=f"localhost:{server.port}").status == 200


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/../data/catalogue.yaml", "GET", 404),
        ("/picture/nothing/red.png", "GET", 404),
        ("/picture/mug/..%2f..%2fx.png", "GET", 404),
        ("/picture/mug/" + "x" * 200 + ".png", "GET", 404),
        ("/0/results?q=" + "x" * 9000, "GET", 414),
        ("/0/search", "POST", 501),
        ("/0/search", "DELETE", 501),
    ],
)
def test_other_requests_are_refused(server: ShopServer, path: str, method: str, status: int) -> None:
    assert get(server, path, method).status == status


def test_pictures_of_any_color(server: ShopServer) -> None:
    assert get(server, f"/picture/mug/{quote('rosé <b>', safe='')}.png").status == 200
    assert get(server, "/picture/mug/.png").status == 200


def test_only_this_machine_is_served(server: ShopServer) -> None:
    assert server._server.server_address[0] == "127.0.0.1"


def test_garbage_does_not_stop_the_server(server: ShopServer) -> None:
    for garbage in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"x" * 70000 + b"\r\n\r\n"):
        with socket.create_connection((HOST, server.port), timeout=10) as connection:
            connection.sendall(garbage)
            connection.settimeout(10)
            connection.recv(100)
    assert get(server, to_address(0, State())).status == 200


def test_a_closed_server_answers_no_more() -> None:
    server = ShopServer(SHOP)
    assert server.is_alive
    server.close()
    server.close()
    assert not server.is_alive
    with pytest.raises(ConnectionError):
        socket.create_connection((HOST, server.port), timeout=5)


def test_the_command_opens_a_shop() -> None:
    root = Path(pages.__file__).parents[2]
    command = [sys.executable, "-m", "envs.webshop", "--catalogue", "small"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
        connection.request("GET", "/0/search")
        assert b"8 products" in connection.getresponse().read()
        connection.close()
        process.terminate()


def test_the_command_says_what_is_wrong() -> None:
    command = [sys.executable, "-m", "envs.webshop", "--catalogue", "nowhere"]
    root = Path(pages.__file__).parents[2]
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: catalogue is 'nowhere'")
    assert result.stderr.count("\n") == 1
