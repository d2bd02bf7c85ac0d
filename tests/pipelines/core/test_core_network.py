"""No proxy stands between a process and a server on its own machine."""

from __future__ import annotations

import errno
import os
import urllib.request

import pytest

from pipelines.commands import cli
from pipelines.core import network
from pipelines.core.errors import PipelineError
from pipelines.core.network import LOOPBACK, bypass_proxy


@pytest.mark.parametrize("before", [{}, {"no_proxy": "corp.example, 127.0.0.1"}, {"NO_PROXY": "corp.example"}])
def test_loopback_is_added_to_what_is_there(before: dict[str, str]) -> None:
    env = dict(before)
    for _ in range(2):
        bypass_proxy(env)
        names = env["no_proxy"].split(",")
        assert env["NO_PROXY"] == env["no_proxy"]
        assert set(LOOPBACK) <= set(names)
        assert len(names) == len(set(names))
        assert ("corp.example" in names) == bool(before)
    everything = {"no_proxy": "*"}
    bypass_proxy(everything)
    assert everything == {"no_proxy": "*"}


def test_every_command_does_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    assert cli.call(["version"]) == 0
    capsys.readouterr()
    assert urllib.request.proxy_bypass("127.0.0.1:4200")
    assert urllib.request.proxy_bypass("localhost")
    assert not urllib.request.proxy_bypass("elsewhere.example")


def test_a_machine_whose_programs_do_not_reach_each_other_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    network.require_loopback()

    def unreachable(*_: object, **__: object) -> None:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(network.socket, "create_connection", unreachable)
    with pytest.raises(PipelineError, match=r"127\.0\.0\.1 \(Network is unreachable\), .*: ip link set lo up"):
        network.require_loopback()
