"""Makes one TextWorld game: `python -m benchmarks.suites.balrog.textworld_make generate TASK NUMBER GAME.z8`.

Runs in a process of its own with a fixed PYTHONHASHSEED, for TextWorld draws from sets of strings, whose order differs
from process to process; what it makes would too.

Source of the settings: conglu1997/intelligent-go-explore, `textworld/misc/make_*.py`, which made BALROG's games.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textworld import Game, GameOptions
from textworld.challenges import CHALLENGES
from textworld.generator import QuestGenerationError, compile_game

#: Seeds tried for one game: on some maps TextWorld finds no quest of the wanted length.
ATTEMPTS = 100


@dataclass(frozen=True)
class Recipe:
    """How the games of a task are made.

    Attributes:
        challenge: TextWorld's name of the kind of game.
        settings: of the challenge.
        only_last_action: whether the objective names only the last action instead of telling the whole way.
        walkthrough: commands that the solution must have, None if it does not matter.
    """

    challenge: str
    settings: Mapping[str, Any]
    only_last_action: bool = True
    walkthrough: int | None = None


RECIPES: dict[str, Recipe] = {
    "treasure_hunter": Recipe("tw-treasure_hunter", {"level": 30}, walkthrough=20),
    "the_cooking_game": Recipe(
        "tw-cooking",
        {"recipe": 5, "take": 5, "go": 12, "open": True, "cook": True, "cut": True, "split": "test", "recipe_seed": 0},
        only_last_action=False,
    ),
    "coin_collector": Recipe("tw-coin_collector", {"level": 220}),
}


def generate(recipe: Recipe, number: int, path: Path) -> Game:
    """Makes the game of this number and compiles it.

    Args:
        recipe: of the task.
        number: of the game; the same number, the same game.
        path: of the compiled game, `.z8`; the game's facts go beside it, `.json`.

    Raises:
        RuntimeError: none of `ATTEMPTS` seeds has a game.
    """
    for attempt in range(ATTEMPTS):
        options = GameOptions()
        options.seeds = ATTEMPTS * number + attempt
        options.path = str(path)
        options.grammar.only_last_action = recipe.only_last_action
        try:
            game = CHALLENGES[recipe.challenge][1](recipe.settings, options)
        except QuestGenerationError:
            continue
        if recipe.walkthrough in (None, len(game.metadata["walkthrough"])):
            compile_game(game, options)
            return game
    raise RuntimeError(f"TextWorld made no game of {recipe.challenge} in {ATTEMPTS} attempts")


def recompile(facts: Path, path: Path) -> None:
    """Compiles a game whose facts are known, for an interpreter that still exists."""
    options = GameOptions()
    options.path = str(path)
    compile_game(Game.load(str(facts)), options)


def main() -> None:
    """Generates a game or compiles one again."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("generate")
    command.add_argument("task", choices=RECIPES)
    command.add_argument("number", type=int)
    command.add_argument("path", type=Path)
    command = commands.add_parser("recompile")
    command.add_argument("facts", type=Path)
    command.add_argument("path", type=Path)
    args = parser.parse_args()
    if args.command == "generate":
        generate(RECIPES[args.task], args.number, args.path)
    else:
        recompile(args.facts, args.path)


if __name__ == "__main__":
    main()
