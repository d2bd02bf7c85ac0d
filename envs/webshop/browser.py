"""Screenshots by a headless Chromium, one for all the windows of a thread (Playwright's interface is bound to it)."""

from __future__ import annotations

import io
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from envs.base import MissingSimulatorError, SimulatorError, how_to_install

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

_log = logging.getLogger(__name__)

#: Names the executable where it is not on PATH.
EXECUTABLE_VARIABLE = "WEBSHOP_CHROMIUM"
_EXECUTABLES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_DEADLINE = 10_000.0  # milliseconds for one call of the browser
#: Pages are laid out this wide, in CSS pixels, and rendered at the scale of the wanted picture.
_LAYOUT_WIDTH = 960
_SCALES = 0.25, 2.0
_ARGUMENTS = (
    "--disable-gpu",
    "--in-process-gpu",
    "--disable-lcd-text",
    "--font-render-hinting=none",
    # A screenshot waits for everything that belongs into it, pictures that are still being decoded included.
    "--disable-checker-imaging",
    "--run-all-compositor-stages-before-draw",
    # Nothing but the shop on this machine is ever asked for.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Window:
    """A page of the browser, with nothing in common with other windows.

    Args:
        width: of a screenshot, in pixels.
        height: of a screenshot, in pixels.

    Raises:
        MissingSimulatorError: Playwright is not installed.
        SimulatorError: there is no browser, or it does not start.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._chromium = _chromium_of_this_thread()
        self._chromium.windows += 1
        self._page: Page | None = None
        self._closed = False
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def screenshot(self, url: str) -> NDArray[np.uint8]:
        """Opens an address and returns what is to be seen without scrolling, (height, width, 3) uint8.

        A browser that crashed is started again: a page follows from its address.

        Raises:
            SimulatorError: the page cannot be shown, after several attempts.
        """
        from playwright.sync_api import Error  # noqa: PLC0415  # only where pictures come from the browser

        for last in (False, True):
            try:
                self._chromium.browser()  # which has a deadline of its own
                with self._chromium.deadline():
                    page = self._open()
                    page.goto(url, timeout=_DEADLINE)
                    png = page.screenshot(type="png", timeout=_DEADLINE)
                break
            except Error as error:
                if last:
                    raise SimulatorError(f"Chromium cannot show {url}: {_first_line(error)}") from error
                _log.warning("starting Chromium again: %s", _first_line(error))
                # Everything anew, whichever of page, browser and Playwright's driver has ended or hangs. Other windows
                # open their pages again when they are next asked for one.
                self._chromium.kill()
                self._chromium.stop()
        # Chromium's own file: what comes from outside is opened by `vldac.utils.pictures`, which no simulator knows.
        image = Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")
        if image.size != self._size:
            image = image.resize(self._size, Image.Resampling.BOX, reducing_gap=2.0)
        return np.asarray(image, dtype=np.uint8).copy()

    def close(self) -> None:
        """Closes the window, and the browser with the last one; closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self._chromium.windows -= 1
        if self._chromium.windows == 0:
            self._chromium.stop()
        elif self._page is not None and self._chromium.runs(self._page):
            from playwright.sync_api import Error  # noqa: PLC0415

            try:
                self._page.context.close()
            except Error as error:  # the browser has ended, and the page with it
                _log.debug("closing a page: %s", _first_line(error))

    def _open(self) -> Page:
        """The window's page, opened anew where there is none or its browser has ended."""
        browser = self._chromium.browser()
        if self._page is None or not self._chromium.runs(self._page):
            width, height = self._size
            scale = min(max(width / _LAYOUT_WIDTH, _SCALES[0]), _SCALES[1])
            context = browser.new_context(
                viewport={"width": _LAYOUT_WIDTH, "height": max(round(_LAYOUT_WIDTH * height / width), 1)},
                device_scale_factor=scale,
                java_script_enabled=False,
                accept_downloads=False,
                service_workers="block",
                locale="en-US",
                timezone_id="UTC",
                color_scheme="light",
            )
            self._page = context.new_page()
        return self._page


class _Chromium:
    """The browser of one thread, started when it is first asked for and again after it has ended."""

    def __init__(self) -> None:
        self.windows = 0
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        #: By which the browser's process is told from those of other threads: a switch that Chromium does not know.
        self._mark = f"--window-of={uuid.uuid4()}"

    def browser(self) -> Browser:
        """The running browser.

        Raises:
            SimulatorError: it does not start.
        """
        if self._browser is not None and self._browser.is_connected():
            return self._browser
        try:
            from playwright.sync_api import Error, sync_playwright  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingSimulatorError(
                "pictures from the browser need the package 'playwright', which is not installed; install it with: "
                f"{how_to_install('webshop')}",
                name="playwright",
            ) from error
        executable = find_executable()
        try:
            if self._playwright is None:
                self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(
                executable_path=executable, args=[*_ARGUMENTS, self._mark], timeout=3 * _DEADLINE
            )
        except Error as error:
            self.stop()
            raise SimulatorError(f"Chromium ({executable}) does not start: {_first_line(error)}") from error
        return self._browser

    def runs(self, page: Page) -> bool:
        """Whether a page is one of the running browser's and open."""
        return page.context.browser is self._browser and not page.is_closed()

    def stop(self) -> None:
        """Ends the browser; it is started again when it is next asked for."""
        playwright, self._playwright, self._browser = self._playwright, None, None
        if playwright is not None:
            with self.deadline():
                playwright.stop()

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Kills the browser if what is asked of it within this context takes too long: not every call has a timeout."""
        timer = threading.Timer(_DEADLINE / 1000, self.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def kill(self) -> None:
        """Ends the browser's processes at once; one that hangs would be waited for. Its driver tidies up after it."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if self._mark in process.cmdline():
                    driver = process.parent()
                    for one in (*process.children(recursive=True), process):
                        one.kill()
                    if driver is not None and driver.status() == psutil.STATUS_STOPPED:
                        driver.kill()


_threads = threading.local()


def _chromium_of_this_thread() -> _Chromium:
    if getattr(_threads, "chromium", None) is None:
        _threads.chromium = _Chromium()
    return _threads.chromium


def find_executable() -> str:
    """The path of Chromium: what `WEBSHOP_CHROMIUM` names, or the first on PATH.

    Raises:
        SimulatorError: there is none.
    """
    named = os.environ.get(EXECUTABLE_VARIABLE)
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, _EXECUTABLES)), None)
    if found is None:
        missing = (
            f"{EXECUTABLE_VARIABLE} names {named}, which is no program" if named else "there is no Chromium on PATH"
        )
        raise SimulatorError(
            f"{missing}; on Debian and Ubuntu: apt-get install chromium (the option pictures=drawn needs no browser)"
        )
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()
