"""Prefect's server behind a guard: it answers its own pages and programs, and no other website.

Without a password, whatever reaches Prefect's API may start processes on this machine, and by default every website
that is open in a browser here reaches it. The guard refuses a request whose `Origin` is another site, and one whose
`Host` is a name that is not this server's: a foreign name that has been pointed at this machine ("DNS rebinding").

`python -m pipelines.orchestration.prefect_server --host 127.0.0.1 --port 4200` takes the place of
`prefect server start`. Settings are Prefect's own, and two count for the guard, both lists with commas:
PREFECT_SERVER_CORS_ALLOWED_ORIGINS (other sites that may use the API) and VLDAC_ALLOWED_HOSTS (names of this server
besides its addresses, localhost and the machine's name).
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from prefect.server.api.server import SubprocessASGIServer, create_app
from prefect.settings import get_current_settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MODULE = "pipelines.orchestration.prefect_server"
#: Environment variable: names of the server besides those that are known.
HOSTS = "VLDAC_ALLOWED_HOSTS"


class Guard:
    """An ASGI application that passes on what comes from its own pages or from a program.

    Args:
        app: what it guards.
        hosts: names of the server besides addresses and localhost.
        origins: sites such as https://gpu1.example that may use it besides its own pages.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._app = app
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
            return "another website may not use this server; add it to PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
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


def _listed(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def guarded_app(*names: str) -> Guard:
    """Prefect's application as its settings say, guarded; `names` are the server's."""
    allowed = get_current_settings().server.api.cors_allowed_origins
    hosts = [socket.gethostname(), socket.getfqdn(), *names, *_listed(os.environ.get(HOSTS, ""))]
    return Guard(create_app(final=True), hosts, _listed(allowed))


class RunServer(SubprocessASGIServer):
    """The server of one run, guarded, and in a session of its own.

    Ctrl-C in the terminal thus reaches the run alone, which still tells its server how it ended.
    """

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        assert self.port is not None
        env = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", MODULE, "--host", "127.0.0.1", "--port", str(self.port), "--log-level", "error"],
            env={**os.environ, **env, **get_current_settings().to_environment_variables(exclude_unset=True)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until a signal ends it."""
    import uvicorn  # noqa: PLC0415

    settings = get_current_settings().server
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default=settings.api.host, help="address to listen on; default: %(default)s")
    parser.add_argument("--port", type=int, default=settings.api.port, help="default: %(default)s")
    parser.add_argument("--log-level", default=settings.logging_level.lower(), help="default: %(default)s")
    options = parser.parse_args(argv)
    uvicorn.run(
        guarded_app(options.host),
        host=options.host,
        port=options.port,
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        log_level=options.log_level,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
