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
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from prefect.server.api.server import SubprocessASGIServer, create_app
from prefect.settings import get_current_settings

from pipelines.core.guard import HOSTS, Guard, listed

MODULE = "pipelines.orchestration.prefect_server"


def guarded_app(*names: str) -> Guard:
    """Prefect's application as its settings say, guarded; `names` are the server's."""
    allowed = get_current_settings().server.api.cors_allowed_origins
    hosts = [socket.gethostname(), socket.getfqdn(), *names, *listed(os.environ.get(HOSTS, ""))]
    setting = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
    return Guard(create_app(final=True), hosts, listed(allowed), setting=setting)


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
