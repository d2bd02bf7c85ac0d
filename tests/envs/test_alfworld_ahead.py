"""Games that are made while others are played."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.alfworld.ahead import ahead
from envs.alfworld.env import ALFWorld
from envs.vector import VectorEnv

SIZE: dict[str, Any] = {"width": 24, "height": 24}


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VLDAC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(cache: Path) -> list[Path]:
    return sorted(cache.glob("alfworld/games/*/*/*/*/[0-9]*.json"))


def until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_prepared_is_the_game_that_the_reset_wants(tmp_path: Path) -> None:
    environment = ALFWorld(**SIZE, rooms="small", tasks="pick_and_place_simple")
    try:
        environment.prepare(17)
        until(lambda: made(tmp_path / "cache"))
        before = {path: path.stat().st_mtime_ns for path in made(tmp_path / "cache")}
        prepared, _ = environment.reset(seed=17)
        assert {path: path.stat().st_mtime_ns for path in made(tmp_path / "cache")} == before  # no other game was made
    finally:
        environment.close()
    assert ahead()._process is None

    alone = ALFWorld(**SIZE, rooms="small", tasks="pick_and_place_simple")
    observation, _ = alone.reset(seed=17)
    assert observation["prompt"] == prepared["prompt"]
    assert np.array_equal(observation["frames"], prepared["frames"])
    alone.prepare(17)  # it is there
    assert ahead()._process is None
    alone.close()


def test_a_preparer_that_dies_is_not_missed() -> None:
    environment = ALFWorld(**SIZE, rooms="small", tasks="pick_and_place_simple")
    environment.prepare(1)
    process = ahead()._process
    assert process is not None
    process.kill()
    process.wait()
    for seed in range(2, 40):
        environment.prepare(seed)  # into a pipe that nobody reads
    environment.reset(seed=1)
    environment.close()


def test_no_process_outlives_a_pool_of_simulators() -> None:
    def children() -> set[str]:
        tree, waiting = set(), [str(os.getpid())]
        while waiting:
            for task in Path(f"/proc/{waiting.pop()}/task").iterdir():
                found = (task / "children").read_text().split()
                tree |= set(found)
                waiting += found
        return tree

    before = children()
    with VectorEnv("ALFWorld-Small-v0", 2, num_workers=1, seeds=lambda i, k: 10 * i + k, **SIZE) as pool:
        pool.reset()
        pool.step([None, None])
        assert len(children() - before) == 2  # the worker, and the process that prepares
    assert children() == before
