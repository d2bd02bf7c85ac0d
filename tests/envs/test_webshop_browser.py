"""The shop in a real browser. Needs Debian's chromium; without it these tests fail and say so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.vector import VectorEnv, training_seeds
from envs.webshop import WebShop, browser
from envs.webshop.screens import _ServerLease

SIZE: dict[str, Any] = {"width": 240, "height": 180}
WAY = ["search[red mug]", "click[b01]", "click[large]"]


def children(pid: int) -> list[tuple[int, str]]:
    """Every living descendant of a process, with its name."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().partition(" (")[2].rpartition(") ")
        except OSError:
            continue  # it has ended in the meantime
        state, parent = rest.split()[:2]
        if state not in "ZX":
            parents.setdefault(int(parent), []).append((int(entry.name), name))
    found: list[tuple[int, str]] = []
    queue = [pid]
    while queue:
        here = parents.get(queue.pop(), [])
        found += here
        queue += [child for child, _ in here]
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def wait_until_gone(pids: list[int]) -> list[int]:
    """The processes that are still there after a while."""
    for _ in range(100):
        pids = [pid for pid in pids if alive(pid)]
        if not pids:
            break
        time.sleep(0.1)
    return pids


def browsers() -> list[int]:
    return [pid for pid, name in children(os.getpid()) if name.startswith("chrom")]


def drivers() -> list[int]:
    return [pid for pid, name in children(os.getpid()) if name.startswith("node")]


@pytest.fixture
def opened() -> Iterator[Callable[..., WebShop]]:
    """Opens environments, which end with the test: a window that is left keeps the browser of all later tests."""
    with ExitStack() as stack:

        def make(**options: Any) -> WebShop:
            environment = WebShop(**{**SIZE, "catalogue": "small", **options})
            stack.callback(environment.close)
            return environment

        yield make


@pytest.fixture
def env(opened: Callable[..., WebShop]) -> WebShop:
    environment = opened()
    environment.reset(seed=1)
    return environment


def act(environment: WebShop, text: str) -> Any:
    action = environment.parse_action(text)
    assert action is not None
    return environment.step(action)[0]["frames"][0]


def frames(environment: WebShop, seed: int = 1) -> list[Any]:
    return [environment.reset(seed=seed)[0]["frames"][0], *(act(environment, text) for text in WAY)]


def test_screenshots_are_of_the_state(env: WebShop) -> None:
    first = frames(env)
    assert all(frame.shape == (180, 240, 3) and frame.dtype == np.uint8 for frame in first)
    assert len({frame.tobytes() for frame in first}) == 4
    header = first[0][4, 120]
    assert tuple(int(part) for part in header) == (29, 53, 87)  # the header's blue
    red = (first[2][..., 0] > 180) & (first[2][..., 1] < 90) & (first[2][..., 2] < 90)
    assert red.sum() > 100  # the picture of a red mug
    env.reset(seed=7)
    again = frames(env)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    before = env.render()
    env.step(None)
    assert np.array_equal(env.render(), before)


def test_environments_share_browser_and_server_and_nothing_else(env: WebShop, opened: Callable[..., WebShop]) -> None:
    alone = frames(env)
    processes = sorted(drivers())
    other = opened(width=120, height=120)
    assert sorted(drivers()) == processes
    assert len(processes) == 1
    assert len(_ServerLease._running) == 1
    mixed = [env.reset(seed=1)[0]["frames"][0]]
    other.reset(seed=2)
    for text in WAY:
        mixed.append(act(env, text))
        act(other, text.replace("b01", "b03"))
    assert [i for i, (a, b) in enumerate(zip(alone, mixed, strict=True)) if not np.array_equal(a, b)] == []
    other.close()
    other.close()
    assert np.array_equal(act(env, "click[small]"), act(env, "click[small]"))
    env.close()
    assert wait_until_gone([*drivers(), *browsers()]) == []
    assert _ServerLease._running == {}


@pytest.mark.slow
@pytest.mark.parametrize("which", ["browser", "driver", "server"])
def test_whatever_ends_is_started_again(env: WebShop, which: str) -> None:
    undisturbed = frames(env)
    env.reset(seed=1)
    act(env, WAY[0])
    if which == "server":
        env._screen._lease.server().close()  # type: ignore[attr-defined]
    for pid in {"browser": browsers(), "driver": drivers(), "server": []}[which]:
        os.kill(pid, signal.SIGKILL)
    for text, expected in zip(WAY[1:], undisturbed[2:], strict=True):
        assert np.array_equal(act(env, text), expected)
    env.close()
    assert wait_until_gone([*drivers(), *browsers()]) == []


@pytest.mark.slow
@pytest.mark.parametrize("which", [browsers, drivers])
def test_what_hangs_is_killed_and_not_waited_for(
    env: WebShop, which: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = frames(env)
    env.reset(seed=1)
    monkeypatch.setattr(browser, "_DEADLINE", 2_000.0)
    left: list[list[int]] = []
    stopped, stop = which(), browser._Chromium.stop

    def recorded(chromium: browser._Chromium) -> None:
        left.append(wait_until_gone(stopped))
        stop(chromium)

    monkeypatch.setattr(browser._Chromium, "stop", recorded)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert np.array_equal(act(env, WAY[0]), undisturbed[1])
    assert left == [[]]  # half a minute is what closing such a browser in order takes


@pytest.mark.slow
def test_threads_have_browsers_of_their_own(env: WebShop) -> None:
    expected = frames(env)
    got: list[Any] = []

    def work() -> None:
        environment = WebShop(**SIZE, catalogue="small")
        got.extend(frames(environment))
        environment.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert len(got) == 4
    assert all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True))
    assert np.array_equal(frames(env)[3], expected[3])


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 24), (64, 64), (1280, 720), (300, 500)])
def test_any_size(opened: Callable[..., WebShop], size: tuple[int, int]) -> None:
    environment = opened(width=size[0], height=size[1])
    environment.reset(seed=0)
    assert act(environment, "search[mug]").shape == (size[1], size[0], 3)


PROGRAM = """
import sys
from envs.webshop import WebShop, browser
world = WebShop(width=64, height=64, catalogue="small")
world.reset(seed=0)
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "not closed"])
def test_no_process_outlives_its_parent(end: str) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        started = [pid for pid, _ in children(process.pid)]
        assert len(started) >= 3
        if end == "killed":
            process.kill()
        else:
            process.stdin.write(b"\n")
            process.stdin.close()
        process.wait(60)
        assert wait_until_gone(started) == []


@pytest.mark.slow
def test_workers_with_browsers() -> None:
    options = {"options": {"pictures": "browser"}, **SIZE}
    with VectorEnv("WebShop-v0", 4, num_workers=2, seeds=training_seeds(0), **options) as pool:
        first = pool.reset()
        assert all(observation is not None for observation in first)
        workers = [worker.process.pid for worker in pool._workers]
        started = [pid for worker in workers for pid, _ in children(worker)]
        step = pool.step(["search[mug]"] * 4)
        assert not any(info["invalid"] for info in step.infos)
        after = step.observations[0]
        assert after is not None
        assert first[0] is not None
        assert not np.array_equal(after["frames"], first[0]["frames"])
        os.kill(workers[0], signal.SIGKILL)
        step = pool.step([None] * 4)
        assert [bool(info.get("lost")) for info in step.infos] == [True, True, False, False]
        gone = [pid for pid, _ in children(workers[0])]
        assert gone == []
        step = pool.step(["search[lamp]", "search[lamp]", "click[back to search]", "click[back to search]"])
        assert not any(info["invalid"] for info in step.infos)
        started += [pid for worker in pool._workers for pid, _ in children(worker.process.pid)]
    assert wait_until_gone(started) == []
