"""Connections to this machine itself never take a proxy."""

from __future__ import annotations

from collections.abc import MutableMapping

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
