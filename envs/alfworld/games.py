"""Where games come from: made here and kept, or downloaded."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from envs.alfworld import generator, store
from envs.alfworld.engine import Engine
from envs.alfworld.expert import next_command
from envs.alfworld.game import Game, Goal
from envs.alfworld.generator import GameId
from envs.alfworld.knowledge import Knowledge
from envs.base import SimulatorError

#: Environment steps within which the expert wins every generated game.
STEP_LIMITS = {"all": 50, "small": 20}
#: What a generated game depends on, besides its id.
_SOURCES = ("engine", "expert", "facts", "floor_plans", "game", "games", "generator", "grammar", "knowledge", "problem")
_PACKAGES = ("alfworld", "textworld", "fast-downward-textworld")
_MAX_BYTES = 4 * 2**20


class Games(ABC):
    """The games of one split."""

    @abstractmethod
    def count(self, task: str) -> int:
        """How many games of a task type there are to draw from."""

    @abstractmethod
    def get(self, task: str, number: int) -> Game:
        """A game, always the same one for the same task type and number."""

    def is_made(self, task: str, number: int) -> bool:
        """Whether nothing would be gained by making a game ready ahead of its reset."""
        return False


class GeneratedGames(Games):
    """Games that are made when they are first asked for.

    Args:
        split: see `GameId`.
        rooms: see `GameId`.
        games: how many of each task type.
    """

    def __init__(self, split: str, rooms: str, games: int) -> None:
        self._split, self._rooms, self._games = split, rooms, games

    def count(self, task: str) -> int:
        """See `Games`."""
        return self._games

    def get(self, task: str, number: int) -> Game:
        """See `Games`."""
        return generated_game(GameId(self._split, task, self._rooms, number))

    def is_made(self, task: str, number: int) -> bool:
        """See `Games`."""
        return path_of(GameId(self._split, task, self._rooms, number)).exists()


def generated_game(game_id: GameId) -> Game:
    """A game, from disk where it has been made before.

    Raises:
        SimulatorError: the cache directory cannot be written.
    """
    path = path_of(game_id)
    game = _decode(store.read(path, _MAX_BYTES))
    if game is None:
        game = make_game(game_id)
        store.write(path, _encode(game))
    return game


def make_game(game_id: GameId) -> Game:
    """The first draft that the expert wins in time.

    Raises:
        SimulatorError: there is none.
    """
    engine = Engine()
    try:
        for game in generator.drafts(game_id):
            if walkthrough(engine, game, STEP_LIMITS[game_id.rooms]) is not None:
                return game
    finally:
        engine.close()
    raise SimulatorError(f"no game could be made for {game_id}; choose other tasks")


def walkthrough(engine: Engine, game: Game, limit: int) -> list[str] | None:
    """The commands with which the expert wins a game within `limit` steps, or None where it does not."""
    engine.start(game)
    known = Knowledge(engine.facts, engine.entities)
    commands: list[str] = []
    while len(commands) < limit:
        command = next_command(game.goal, known, engine.commands)
        if command is None:
            return None
        engine.step(command)
        known.observe(command, engine.facts, engine.entities)
        commands.append(command)
        if engine.won:
            return commands
    return None


def path_of(game_id: GameId) -> Path:
    """The file of a generated game."""
    folder = store.cache_directory() / "games" / _digest() / game_id.rooms / game_id.split / game_id.task
    return folder / f"{game_id.number}.json"


@cache
def _digest() -> str:
    """Changes whenever what a game depends on changes."""
    digest = hashlib.sha256()
    for source in _SOURCES:
        digest.update((files("envs.alfworld") / f"{source}.py").read_bytes())
    for package in _PACKAGES:
        digest.update(f"{package}=={version(package)}\0".encode())
    return digest.hexdigest()[:16]


def _encode(game: Game) -> bytes:
    body = json.dumps({"goal": asdict(game.goal), "text": game.text, "problem": game.problem}, sort_keys=True)
    return f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n".encode()


def _decode(data: bytes | None) -> Game | None:
    """A kept game, or None where the file is damaged."""
    if data is None:
        return None
    digest, _, body = data.removesuffix(b"\n").partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    values = json.loads(body)
    domain, grammar = generator.logic()
    return Game(Goal(**values["goal"]), values["text"], domain, values["problem"], grammar)
