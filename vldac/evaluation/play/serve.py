"""Serves the page on the loopback interface until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import uvicorn

from vldac.config import EnvConfig
from vldac.evaluation.play.app import Chosen, create_app
from vldac.evaluation.play.models import Choice, Models
from vldac.evaluation.play.sessions import Sessions
from vldac.utils.libraries import quiet

HOST = "127.0.0.1"


def serve(find: Callable[[], Sequence[Choice]], port: int, chosen: Chosen, presets: Mapping[str, EnvConfig]) -> None:
    """Serves the page.

    Args:
        find: lists the models to choose from.
        port: 0 takes a free one.
        chosen: what the page opens with.
        presets: see `create_app`.

    Raises:
        OSError: the port cannot be used.
    """
    quiet()
    with socket.create_server((HOST, port)) as listening:
        port = listening.getsockname()[1]
        app = create_app(Models(find), Sessions(), {f"{HOST}:{port}", f"localhost:{port}"}, chosen, presets)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=64,
            timeout_graceful_shutdown=10,
        )
        print(f"http://{HOST}:{port}  (Ctrl-C stops it)", flush=True)
        with suppress(KeyboardInterrupt):  # which uvicorn raises once all is closed
            uvicorn.Server(config).run(sockets=[listening])
