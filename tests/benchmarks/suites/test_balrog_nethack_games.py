"""Whole episodes of NLE and MiniHack."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nle import nethack
from nle.env.tasks import NetHackStaircase

from benchmarks.suites.balrog import nethack as balrog_nethack
from benchmarks.suites.balrog.environment import Environment, Observation
from benchmarks.suites.balrog.nethack import game
from benchmarks.suites.balrog.nethack.sokoban import MOVES, puzzle, solve

MAZE, BOXOBAN = "MiniHack-MazeWalk-9x9-v0", "MiniHack-Boxoban-Hard-v0"
Step = tuple[Observation, float, bool, bool]


@pytest.fixture(scope="module")
def maze() -> Iterator[Environment]:
    environment = balrog_nethack.make("minihack", MAZE, vision=False)
    yield environment
    environment.close()


@pytest.fixture(scope="module")
def challenge() -> Iterator[Environment]:
    environment = balrog_nethack.make("nle", "NetHackChallenge-v0", vision=False)
    yield environment
    environment.close()


def shown(observation: Observation) -> tuple[str, str, bytes]:
    image = b"" if observation.image is None else observation.image.tobytes()
    return observation.long_term_context, observation.short_term_context, image


def episode(environment: Environment, seed: int, steps: int) -> list[Any]:
    """All that is shown for random actions, and what they are worth."""
    rng, seen = random.Random(seed), list[Any]([shown(environment.reset(seed))])
    for _ in range(steps):
        observation, *rest = environment.step(rng.choice(environment.actions))
        seen.append((*shown(observation), *rest, environment.progression()))
        if rest[1] or rest[2]:
            break
    return seen


def rows(observation: Observation) -> list[str]:
    """The terminal's rows from the second on."""
    return observation.long_term_context.partition("\nmap:\n")[2].split("\n")


def next_move(screen: list[str], visited: set[tuple[int, int]]) -> str:
    """Towards the stairs if they are in sight, else to the nearest place that was not visited."""
    start = next((r, row.index("@")) for r, row in enumerate(screen[:21]) if "@" in row)
    visited.add(start)
    queue: deque[tuple[tuple[int, int], tuple[str, ...]]] = deque([(start, ())])
    found, seen = None, {start}
    while queue:
        place, path = queue.popleft()
        if path and screen[place[0]][place[1]] == ">":
            return path[0]
        if path and found is None and place not in visited:
            found = path[0]
        for name, (dr, dc) in MOVES.items():
            beside = (place[0] + dr, place[1] + dc)
            if beside not in seen and screen[beside[0]][beside[1]] in ".<>":
                seen.add(beside)
                queue.append((beside, (*path, name)))
    assert found is not None
    return found


def test_an_agent_that_explores_walks_out_of_a_maze(maze: Environment) -> None:
    observation, visited, rewards = maze.reset(1), set[tuple[int, int]](), []
    terminated = truncated = False
    while not (terminated or truncated):
        assert maze.progression() == 0
        observation, reward, terminated, truncated = maze.step(next_move(rows(observation), visited))
        rewards.append(reward)
    assert (terminated, truncated, rewards[-1]) == (True, False, 1.0)
    assert maze.progression() == 1
    with pytest.raises(RuntimeError, match="the episode is over"):
        maze.step("north")
    maze.reset(1)
    assert maze.progression() == 0


def test_the_solution_of_a_puzzle_wins_boxoban(tmp_path: Path) -> None:
    drawn = ("########", "#@     #", "# $ .  #", "#   $. #", "########")
    (tmp_path / "hard").mkdir()
    (tmp_path / "hard" / "000.txt").write_text("; 0\n" + "".join(f"{row}\n" for row in drawn) + "\n")
    environment = balrog_nethack.make("minihack", BOXOBAN, vision=False, maps=tmp_path)
    moves = solve(puzzle(drawn))
    assert moves is not None
    screen = rows(environment.reset(0))
    assert "".join(screen[:21]).count("`") == "".join(screen[:21]).count("{") == 2
    steps = [environment.step(move) for move in moves]
    environment.close()
    assert steps[-1][1:] == (1.0, True, False)
    assert environment.progression() == 1
    rewards = [round(reward, 6) for _, reward, _, _ in steps[:-1]]
    assert sorted(set(rewards)) == [-0.001, 0.099]
    assert rewards.count(0.099) == 1
    assert not any(terminated or truncated for _, _, terminated, truncated in steps[:-1])


def test_minihack_ends_after_100_steps_and_a_step_into_a_wall_costs(maze: Environment) -> None:
    maze.reset(0)
    steps = [maze.step("northwest") for _ in range(100)]
    assert [truncated for *_, truncated in steps] == [False] * 99 + [True]
    assert not any(terminated for _, _, terminated, _ in steps)
    assert steps[-2][1] == -0.01
    assert maze.progression() == 0
    assert maze.max_steps == 100


def test_nle_is_aborted_after_150_steps_without_time(challenge: Environment) -> None:
    challenge.reset(0)
    # The first step only notes the time.
    assert [challenge.step("esc")[3] for _ in range(151)] == [False] * 150 + [True]
    challenge.reset(0)
    for _ in range(100):
        challenge.step("esc")
    challenge.step("search")
    assert not any(challenge.step("esc")[3] for _ in range(149))
    assert challenge.max_steps == 100_000


@pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name, tasks in balrog_nethack.TASKS.items() for task in tasks]
)
def test_the_same_seed_is_the_same_episode_whatever_ran_before(name: str, task: str) -> None:
    first = balrog_nethack.make(name, task)
    seen = episode(first, 7, 25)
    assert episode(first, 8, 5) != seen[:6]
    random.seed(1)
    np.random.seed(1)
    assert episode(first, 7, 25) == seen
    # A second one, and a step of the first between any two of its own.
    second, rng = balrog_nethack.make(name, task), random.Random(7)
    first.reset(9)
    again: list[Any] = [shown(second.reset(7))]
    for _ in seen[1:]:
        first.step(first.actions[0])
        observation, *rest = second.step(rng.choice(second.actions))
        again.append((*shown(observation), *rest, second.progression()))
    assert again == seen
    first.close()
    second.close()


def test_the_game_never_seeds_itself_anew(maze: Environment) -> None:
    maze.reset(7)
    assert vars(maze)["_simulator"].nethack.get_current_seeds() == (7, 7, False, None)


def test_the_parts_are_shown_in_the_order_of_balrog(challenge: Environment) -> None:
    def titles(text: str) -> list[str]:
        known = ("message", "language observation", "cursor", "map", "statistics", "inventory")
        return [line[:-1] for line in text.split("\n") if line[:-1] in known and line.endswith(":")]

    blind = challenge.reset(3)
    assert titles(blind.long_term_context) == ["message", "language observation", "cursor", "map"]
    assert titles(blind.short_term_context) == ["inventory"]
    assert blind.image is None
    environment = balrog_nethack.make("nle", "NetHackChallenge-v0")
    seeing = environment.reset(3)
    environment.close()
    assert titles(seeing.long_term_context) == ["message", "language observation", "cursor"]
    assert titles(seeing.short_term_context) == ["statistics", "inventory"]
    assert seeing.image is not None
    assert seeing.image.shape == (336, 1264, 3)
    head, _, tail = blind.long_term_context.partition("\nmap:\n")
    assert head.rpartition("(x=")[0] == seeing.long_term_context
    screen = tail.split("\n")
    assert [len(row) for row in screen[:23]] == [80] * 23
    assert screen[23:] == ["", ""]


class Pages:
    """A simulator that shows the given messages, one a step, each step worth 0.25."""

    StepStatus = NetHackStaircase.StepStatus
    actions = (nethack.MiscAction.MORE, nethack.Command.KICK)
    nethack = SimpleNamespace(set_initial_seeds=lambda core, disp, reseed: None)

    def __init__(self, *messages: str, last_reward: float = 0.25, status: int = 1, depth: int = 1) -> None:
        self.messages = [*messages]
        self.pressed: list[Any] = []
        self.last_reward, self.status, self.depth = last_reward, status, depth

    def screen(self, message: str) -> dict[str, Any]:
        blstats = np.zeros(nethack.NLE_BLSTATS_SIZE, np.int64)
        blstats[nethack.NLE_BL_DEPTH] = self.depth
        tty = np.full((24, 80), ord(" "), np.uint8)
        tty[0, : len(message)] = list(message.encode())
        return {
            "glyphs": np.full((21, 79), nethack.GLYPH_CMAP_OFF, np.int16),
            "blstats": blstats,
            "tty_chars": tty,
            "tty_cursor": np.zeros(2, np.uint8),
            "inv_strs": np.zeros((55, 80), np.uint8),
            "inv_letters": np.zeros(55, np.uint8),
        }

    def reset(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.screen("Hello--More--"), {}

    def step(self, index: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.pressed.append(self.actions[index])
        screen, done = self.screen(self.messages.pop(0)), not self.messages
        reward = self.last_reward if done else 0.25
        return screen, reward, done, False, {"end_status": self.StepStatus(self.status if done else 0)}

    def close(self) -> None:
        pass


def scripted(monkeypatch: pytest.MonkeyPatch, environment: Environment, pages: Pages) -> Environment:
    monkeypatch.setattr(environment, "_make_simulator", lambda seed: pages)
    return environment


def test_all_pages_of_a_message_are_read_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages("One.--More--", "Two.--More--", "Three.", "Four.--More--")
    environment = scripted(monkeypatch, game.NetHack(vision=False), pages)
    assert environment.reset(0).long_term_context.startswith("message:\nHello--More--\n\n")
    observation, reward, terminated, _ = environment.step("kick")
    assert observation.long_term_context.startswith("message:\nOne.\nTwo.\nThree.\n\n")
    assert (reward, terminated) == (0.75, False)
    assert pages.pressed == [nethack.Command.KICK, nethack.MiscAction.MORE, nethack.MiscAction.MORE]
    # The last page of an episode is not turned.
    observation, reward, terminated, _ = environment.step("kick")
    assert observation.long_term_context.startswith("message:\nFour.--More--\n\n")
    assert (reward, terminated) == (0.25, True)


@pytest.mark.parametrize(("reward", "worth"), [(1.0, 1.0), (0.99, 0.0), (1.25, 1.0), (0.0, 0.0)])
def test_the_last_reward_decides_about_minihack(monkeypatch: pytest.MonkeyPatch, reward: float, worth: float) -> None:
    task = "MiniHack-Quest-Easy-v0"
    environment = scripted(monkeypatch, game.MiniHack(task), Pages("One.", last_reward=reward, status=2))
    environment.reset(0)
    assert environment.step("kick")[1:] == (reward, True, False)
    assert environment.progression() == worth


def test_the_deepest_level_of_an_episode_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages("One.", "Two.", "Three.", status=-1)
    environment = scripted(monkeypatch, game.NetHack(), pages)
    environment.reset(0)
    pages.depth = 4
    assert environment.progression() == 0
    environment.step("kick")
    assert environment.progression() == 0.021221378364235505
    pages.depth = 2
    environment.step("kick")
    assert environment.progression() == 0.021221378364235505
    assert environment.step("kick")[1:] == (0.25, False, True)


def test_what_is_no_action_is_the_default_one(maze: Environment, challenge: Environment) -> None:
    assert [maze.check(text) for text in ("south", "South", " south", "", "zap", "düsen")] == ["south"] + ["north"] * 5
    assert [challenge.check(text) for text in ("pray", "b", "7", "42", "travel")] == ["pray", "b", "7", "esc", "esc"]
    maze.reset(0)
    with pytest.raises(ValueError, match="there is no action 'South'"):
        maze.step("South")


def test_sixteen_games_at_once_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    descriptors = len([*Path("/proc/self/fd").iterdir()])
    games = [balrog_nethack.make("minihack", MAZE, vision=False) for _ in range(16)]
    first = [shown(environment.reset(seed)) for seed, environment in enumerate(games)]
    assert len(set(first)) == 16
    assert len([*tmp_path.iterdir()]) == 16
    for environment in games:
        environment.step("north")
        environment.reset(0)
    simulators = [vars(environment)["_simulator"] for environment in games]  # or they would be collected, closed or not
    for environment in games:
        environment.close()
        environment.close()
    assert not [*tmp_path.iterdir()]
    assert len([*Path("/proc/self/fd").iterdir()]) <= descriptors
    assert len(simulators) == 16


def test_seeds_and_tasks_are_checked(maze: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="the seed is"):
            maze.reset(seed)
    with pytest.raises(ValueError, match="no task minihack/Maze; the tasks are nle/NetHackChallenge-v0, minihack/"):
        balrog_nethack.make("minihack", "Maze")
    monkeypatch.delenv(balrog_nethack.MAPS_VARIABLE, raising=False)
    assert balrog_nethack.synthetic("minihack", BOXOBAN)
    assert not balrog_nethack.synthetic("minihack", MAZE)
    monkeypatch.setenv(balrog_nethack.MAPS_VARIABLE, "/maps")
    assert not balrog_nethack.synthetic("minihack", BOXOBAN)


def test_the_simulator_is_imported_when_a_game_is_made_and_its_absence_is_told() -> None:
    code = """
import sys
from benchmarks.suites.balrog import nethack
assert "nle" not in sys.modules
sys.modules["nle"] = None
nethack.make("nle", "NetHackChallenge-v0")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().rpartition("\n")[2]
    assert last.startswith("envs.base.MissingSimulatorError: nle needs the package 'nle'")
    assert last.endswith("which is not installed: make setup")
