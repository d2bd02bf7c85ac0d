"""`vldac play` and its page in a real browser, for tests: Debian's Chromium, and nothing left of either afterwards."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from envs.webshop.browser import find_executable
from tests.integration.service_client import free_port


@contextmanager
def served(directory: Path, model: str, log: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Serves the page of a project; yields its address. Ctrl-C ends it, and it has complained of nothing.

    Args:
        directory: of the project.
        model: that the page opens with.
        log: takes what it says on stderr.
        env: of the command.
    """
    command = [sys.executable, "-m", "pipelines.commands.cli", "play", model, "--port", str(free_port())]
    with log.open("w") as err:
        server = subprocess.Popen(command, cwd=directory, env=env, stdout=subprocess.PIPE, stderr=err, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    said = re.match(r"(http://127\.0\.0\.1:\d+)  \(Ctrl-C stops it\)\n", line)
    try:
        assert said is not None, line + log.read_text()
        yield said[1]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert log.read_text() == ""


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """The page in a browser. It has raised no error and asked for nothing elsewhere."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_executable(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        page.set_default_timeout(180_000)
        expect.set_options(timeout=180_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: errors.append(request.url) if _elsewhere(request.url, address) else None)
        page.goto(address)
        yield page
        browser.close()
    assert [error for error in errors if "status of 422" not in error] == []  # a refusal, which the page tells


def _elsewhere(url: str, address: str) -> bool:
    return not url.startswith((f"{address}/", "data:"))
