"""A guard before a server: it answers its own pages and programs, and no other website that is open in a browser.

It refuses a request whose `Origin` is another site, and one whose `Host` is a name that is not this server's: a foreign
name that has been pointed at this machine ("DNS rebinding").
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Environment variable: names of the server besides those that are known.
HOSTS = "VLDAC_ALLOWED_HOSTS"


class Guard:
    """An ASGI application that passes on what comes from its own pages or from a program.

    Args:
        app: what it guards.
        hosts: names of the server besides addresses and localhost.
        origins: sites such as https://gpu1.example that may use it besides its own pages.
        setting: environment variable that names such sites; None for a server that serves none.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        *,
        setting: str | None = None,
    ) -> None:
        self._app, self._setting = app, setting
        self._hosts = {"localhost", *(name.lower() for name in hosts)}
        self._origins = {origin.rstrip("/").lower() for origin in origins} - {"*"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        refusal = self._refusal(scope) if scope["type"] in {"http", "websocket"} else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # its request to connect, which is answered by a refusal
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": refusal.encode()})

    def _refusal(self, scope: Scope) -> str | None:
        """Why a request is refused, None for one that is not."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or not self._known(_host(f"//{hosts[0]}")):
            return f"this server does not go by the name in the header Host; add it to {HOSTS}"
        allowed = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")} | self._origins
        if any(origin.lower() not in allowed for origin in origins):
            cure = f"; add it to {self._setting}" if self._setting else ""
            return f"another website may not use this server{cure}"
        return None

    def _known(self, name: str | None) -> bool:
        """Whether a name is this server's. An address cannot be pointed elsewhere, a name can."""
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name or "")
        except ValueError:
            return False
        return True


def _values(scope: Scope, header: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for name, value in scope["headers"] if name.lower() == header]


def _host(address: str) -> str | None:
    """The host of an address in lower case, without its port; None where there is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def listed(value: str) -> list[str]:
    """The items of a setting that is a list with commas."""
    return [item.strip() for item in value.split(",") if item.strip()]
