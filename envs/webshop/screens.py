"""What an environment shows of the shop: a drawing of the page, or the page in a browser."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.webshop.drawn import draw_page
from envs.webshop.shop import Shop, State

if TYPE_CHECKING:
    from envs.webshop.server import ShopServer


class Screen(Protocol):
    """Pictures of pages."""

    def show(self, goal: int, state: State) -> NDArray[np.uint8]:
        """The picture of a page, (height, width, 3) uint8; `goal` is its number in the shop."""

    def close(self) -> None:
        """Gives back what the pictures needed; closing twice is allowed."""


def open_screen(pictures: Literal["browser", "drawn"], shop: Shop, width: int, height: int) -> Screen:
    """A screen of width x height pixels.

    Raises:
        SimulatorError: there is no browser, or it does not start.
    """
    return BrowserScreen(shop, width, height) if pictures == "browser" else DrawnScreen(shop, width, height)


class DrawnScreen:
    """Draws pages itself; see `drawn`."""

    def __init__(self, shop: Shop, width: int, height: int) -> None:
        self._shop, self._width, self._height = shop, width, height

    def show(self, goal: int, state: State) -> NDArray[np.uint8]:
        """See `Screen`."""
        return draw_page(self._shop, state, self._width, self._height)

    def close(self) -> None:
        """Nothing to give back."""


class BrowserScreen:
    """Serves the shop on this machine and opens its pages in a browser; screens share the server and the browser."""

    def __init__(self, shop: Shop, width: int, height: int) -> None:
        from envs.webshop.browser import Window  # noqa: PLC0415  # a drawn shop needs neither browser nor server

        self._lease = _ServerLease(shop)
        try:
            self._window = Window(width, height)
        except BaseException:
            self._lease.close()
            raise

    def show(self, goal: int, state: State) -> NDArray[np.uint8]:
        """See `Screen`; the server is started again if it has ended."""
        return self._window.screenshot(self._lease.server().url(goal, state))

    def close(self) -> None:
        """See `Screen`."""
        self._window.close()
        self._lease.close()


class _ServerLease:
    """A share in the server of a shop, which runs while anybody has one."""

    _lock = threading.Lock()
    _running: dict[int, tuple[ShopServer, int]] = {}  # noqa: RUF012  # shared on purpose: one server for a shop

    def __init__(self, shop: Shop) -> None:
        self._shop, self._open = shop, True
        self._change(+1)

    def server(self) -> ShopServer:
        """The running server."""
        with self._lock:
            server, users = self._running[id(self._shop)]
            if not server.is_alive:
                server.close()
                server = self._start()
                self._running[id(self._shop)] = server, users
            return server

    def close(self) -> None:
        """Gives the share back; closing twice is allowed."""
        if self._open:
            self._open = False
            self._change(-1)

    def _change(self, users: int) -> None:
        with self._lock:
            server, before = self._running.pop(id(self._shop), (None, 0))
            if before + users > 0:
                self._running[id(self._shop)] = server or self._start(), before + users
            elif server is not None:
                server.close()

    def _start(self) -> ShopServer:
        from envs.webshop.server import ShopServer  # noqa: PLC0415

        return ShopServer(self._shop)
