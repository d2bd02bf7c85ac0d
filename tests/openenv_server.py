"""An environment of this project behind OpenEnv, for as long as a test needs it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


@contextmanager
def served(env_id: str, make_options: dict[str, Any], sessions: int) -> Iterator[str]:
    """Serves an environment on loopback; yields host and port."""
    from envs.openenv import server  # noqa: PLC0415  # needs the extra, which whoever imports this may lack

    listener = socket.create_server(("127.0.0.1", 0))
    app = server.application(env_id, make_options, sessions=sessions)
    running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join()
