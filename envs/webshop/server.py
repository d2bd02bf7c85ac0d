"""The shop over HTTP, for a browser on this machine."""

from __future__ import annotations

import re
import secrets
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from envs.webshop import pages
from envs.webshop.addresses import from_address, to_address
from envs.webshop.pictures import KINDS
from envs.webshop.shop import Shop, State

HOST = "127.0.0.1"
_LONGEST_ADDRESS = 8192
_POLL = 0.1  # seconds between two looks at whether to stop
_PICTURE = re.compile(r"/picture/([a-z]{1,32})/([^/]{0,128})\.png")
_HEADERS = {
    # No scripts at all, and nothing from elsewhere.
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ShopServer:
    """Serves one shop on a free port of the loopback interface, in a thread of its own.

    It holds no state: a page follows from its address alone.

    Args:
        shop: what to serve.
        port: 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, shop: Shop, port: int = 0) -> None:
        self._server = _Server((HOST, port), shop)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL,), name="webshop", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where the shop opens with a goal drawn at random."""
        return f"http://{HOST}:{self.port}/"

    @property
    def is_alive(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive() and self._server.socket.fileno() >= 0

    def url(self, goal: int, state: State) -> str:
        """The full address of a page."""
        return f"http://{HOST}:{self.port}{to_address(goal, state)}"

    def close(self) -> None:
        """Stops serving; closing twice is allowed."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], shop: Shop) -> None:
        super().__init__(address, _Handler)
        self.shop = shop
        port = self.server_address[1]
        #: A page of another site whose name was made to point here must not read the shop.
        self.hosts = frozenset({f"{HOST}:{port}", f"localhost:{port}"})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Reports what went wrong, unless it is that the browser has gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that a connection may stay silent
    wbufsize = -1  # head and body leave together: apart, the second would wait for the first to be acknowledged

    def do_GET(self) -> None:
        """Answers with a page, a picture or the style sheet."""
        if not _is_address(self.path):
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif self.headers.get("Host") not in self.server.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        elif len(self.path) > _LONGEST_ADDRESS:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self.path == "/":
            goal = secrets.randbelow(len(self.server.shop.goals))
            self._send(HTTPStatus.SEE_OTHER, b"", "text/plain", {"Location": to_address(goal, State())})
        elif self.path == "/style.css":
            self._send(HTTPStatus.OK, pages.style_sheet(), "text/css; charset=utf-8", {"Cache-Control": "max-age=3600"})
        elif (match := _PICTURE.fullmatch(unquote(self.path))) is not None and match[1] in KINDS:
            self._send(
                HTTPStatus.OK, pages.picture_file(match[1], match[2]), "image/png", {"Cache-Control": "max-age=3600"}
            )
        elif (found := from_address(self.path, self.server.shop)) is not None:
            page = pages.html(self.server.shop, *found).encode()
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8", {"Cache-Control": "no-store"})
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(status, f"{status.value} {status.phrase}\n".encode(), "text/plain; charset=utf-8", {})

    def _send(self, status: HTTPStatus, body: bytes, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **headers, "Content-Type": content_type}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: pages are shown many times a second."""


def _is_address(target: str) -> bool:
    """Whether what a request asks for can be an address at all, unlike "http://[::1"."""
    try:
        urlsplit(target)
    except ValueError:
        return False
    return True
