"""Connections to this machine itself: they never take a proxy, and nothing works without them."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

from pipelines.core.errors import PipelineError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def bypass_proxy(env: MutableMapping[str, str]) -> None:
    """Adds loopback to `no_proxy`, in both spellings, since programs differ in the one that they read.

    Args:
        env: environment of a process and, through it, of its children.
    """
    listed = env.get("no_proxy") or env.get("NO_PROXY") or ""
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if "*" in names:
        return
    env["no_proxy"] = env["NO_PROXY"] = ",".join([*names, *(name for name in LOOPBACK if name not in names)])


def require_loopback() -> None:
    """Checks that programs of this machine reach each other; in a network namespace of its own they may not.

    Raises:
        PipelineError: they do not.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        raise PipelineError(
            f"programs cannot reach each other on 127.0.0.1 ({error.strerror or error}), as Prefect and its runs do; "
            "bring the loopback up: ip link set lo up"
        ) from None
