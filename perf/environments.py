"""Environments measured: success of a random player and of the environment's expert, episode lengths, speed.

    vldac perf envs [--episodes 100] [--envs GymCards-NumberLine-v0 "WebShop-v0 pictures=drawn" ...]

Prints Markdown tables. Success is over the first evaluation seeds, one episode each; speed is of random play, resets
included. With `--episodes 0`, speed alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import yaml
from tqdm import tqdm

from envs import registry
from envs.base import EVALUATION_SEEDS, Env
from envs.vector import VectorEnv, training_seeds
from vldac.evaluation.statistics import wilson_interval
from vldac.utils.errors import report_errors

#: Picture sizes (width, height) that the environments are published with, by the first part of their ids.
SIZES = {"MiniWorld": (80, 60), "GymCards": (300, 300), "ALFWorld": (300, 300), "WebShop": (640, 480)}
#: What a simulator is made of besides this project.
PACKAGES = ("miniworld", "pyglet", "OpenGL", "alfworld", "textworld", "fast_downward", "tatsu", "playwright")

#: Those of docs/environments.md. All of MiniWorld's take an hour: the limit of a maze is thousands of steps.
ENVIRONMENTS = (
    *(f"MiniWorld-{name}-v0" for name in ("OneRoomS6Fast", "OneRoom", "Hallway", "FourRooms", "WallGap", "TMaze")),
    *(
        f"GymCards-{name}"
        for name in ("NumberLine-v0", "EZPoints-v0", "Points24-v0 solvable_only=true", "Blackjack-v0")
    ),
    *("ALFWorld-v0", "ALFWorld-Small-v0"),
    *("WebShop-v0 pictures=drawn", "WebShop-Small-v0"),
)

Player = Callable[[Env], str | None]


@dataclass(frozen=True)
class Played:
    """Episodes of one player.

    Attributes:
        successes: one a finished episode.
        returns: undiscounted.
        lengths: in environment steps.
    """

    successes: list[bool]
    returns: list[float]
    lengths: list[int]


def random_player(seed: int) -> Player:
    """Names each of the actions that are accepted with equal probability."""
    rng = np.random.default_rng(seed)

    def choose(unwrapped: Env) -> str:
        return unwrapped.action_names[int(rng.integers(len(unwrapped.action_names)))]

    return choose


def play(env: Any, player: Player, episodes: int, label: str) -> Played | None:
    """Plays the first evaluation seeds; None if the player has no answer at the start of an episode."""
    unwrapped = cast(Env, env.unwrapped)
    played = Played([], [], [])
    for seed in tqdm(EVALUATION_SEEDS[:episodes], desc=label, leave=False, disable=not sys.stderr.isatty()):
        env.reset(seed=seed)
        total, length = 0.0, 0
        while True:
            name = player(unwrapped)
            if name is None and length == 0:
                return None
            _, reward, terminated, truncated, info = env.step(None if name is None else unwrapped.parse_action(name))
            total, length = total + float(reward), length + 1
            if terminated or truncated:
                break
        played.successes.append(bool(info["success"]))
        played.returns.append(total)
        played.lengths.append(length)
    return played


def single(env: Any, seconds: float) -> tuple[float, float]:
    """Steps/s of random play in this process, and the share of time inside the simulator's packages."""
    unwrapped, player, steps, seed = cast(Env, env.unwrapped), random_player(0), 0, 0
    env.reset(seed=seed)
    with Sampler(PACKAGES) as sampler:
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            name = player(unwrapped)
            _, _, terminated, truncated, _ = env.step(None if name is None else unwrapped.parse_action(name))
            steps += 1
            if terminated or truncated:
                seed += 1
                env.reset(seed=seed)
        elapsed = time.perf_counter() - started
    return steps / elapsed, sampler.share


class Sampler:
    """Looks at the stack of the calling thread a few hundred times a second.

    Args:
        packages: `share` is of the looks that found a frame of one of these (top-level names below site-packages).
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self._marks = tuple(f"site-packages{os.sep}{package}" for package in packages)
        self._thread = threading.Thread(target=self._look, args=(threading.get_ident(),), daemon=True)
        self._stop = threading.Event()
        self._looks = self._hits = 0

    @property
    def share(self) -> float:
        """Of the looks so far, 0 to 1; 0 before the first."""
        return self._hits / self._looks if self._looks else 0.0

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self, ident: int) -> None:
        while not self._stop.wait(0.003):
            frame = sys._current_frames().get(ident)
            self._looks += 1
            while frame is not None:
                if any(mark in frame.f_code.co_filename for mark in self._marks):
                    self._hits += 1
                    break
                frame = frame.f_back


def pooled(env_id: str, make_options: dict[str, Any], num_envs: int, workers: int, seconds: float) -> float:
    """Steps/s of random play of `num_envs` simulators in `workers` processes."""
    rng = np.random.default_rng(0)
    with VectorEnv(env_id, num_envs, num_workers=workers, seeds=training_seeds(0), **make_options) as pool:
        pool.reset()
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            pool.step([names[int(rng.integers(len(names)))] for names in pool.action_names])
            steps += num_envs
        return steps / (time.perf_counter() - started)


def success_cell(played: Played | None) -> str:
    """Success with its interval, mean return."""
    if played is None:
        return "none"
    count, total = len(played.successes), sum(played.successes)
    low, high = wilson_interval(total, count)
    return f"{total / count:.2f} [{low:.2f}, {high:.2f}], return {np.mean(played.returns):.2f}"


def length_cell(played: Played | None) -> str:
    """Mean and range of episode lengths."""
    if played is None:
        return "-"
    return f"{np.mean(played.lengths):.1f} ({min(played.lengths)}-{max(played.lengths)})"


def measure(world: str, episodes: int, seconds: float) -> tuple[list[str], list[str]]:
    """The two table rows of one environment, an id and "name=value" options: what players reach, and how fast it is.

    The first is empty if no episode is asked for.
    """
    env_id, *chosen = world.split()
    width, height = SIZES.get(env_id.split("-", maxsplit=1)[0], (300, 300))
    options: dict[str, Any] = {"width": width, "height": height}
    options["options"] = {name: yaml.safe_load(value) for name, _, value in (c.partition("=") for c in chosen)}
    env = registry.make(env_id, **options)
    score: list[str] = []
    try:
        if episodes:
            random = play(env, random_player(0), episodes, f"{env_id} random")
            expert = play(env, lambda unwrapped: unwrapped.expert_action(), episodes, f"{env_id} expert")
            score = [world, success_cell(random), length_cell(random), success_cell(expert), length_cell(expert)]
        per_second, inside = single(env, seconds)
    finally:
        env.close()
    one_worker = pooled(env_id, options, 1, 1, seconds)
    both = pooled(env_id, options, 16, 2, seconds)
    transport = max(0.0, 1 - one_worker / per_second)
    speed = [world, f"{width}x{height}", f"{per_second:,.0f}", f"{inside:.0%}", f"{transport:.0%}", f"{both:,.0f}"]
    return score, speed


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="vldac perf envs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--envs", nargs="+", default=ENVIRONMENTS, metavar="WORLD", help="ids, each with options")
    parser.add_argument(
        "--episodes", type=int, default=100, help="of each player; 0: speed alone (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each timing (default: %(default)s)")
    options = parser.parse_args(arguments)
    rows = []
    for world in options.envs:
        rows.append(measure(world, options.episodes, options.seconds))
        print(f"measured {world}", file=sys.stderr, flush=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}\n")
    if options.episodes:
        print(f"{options.episodes} evaluation seeds; 95% Wilson intervals\n")
        print(
            table(["environment", "random player", "its steps", "expert", "its steps"], [row[0] for row in rows]) + "\n"
        )
    speed = ["environment", "picture", "steps/s, one", "in its packages", "worker overhead", "steps/s, 16 in 2 workers"]
    print(table(speed, [row[1] for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
