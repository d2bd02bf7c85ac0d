"""Makes games ahead of time: `vldac envs games --split train --tasks all --games 100 --workers 2`.

Environments make the games that they lack by themselves; a game of a whole room then takes a second or so at its first
reset.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tqdm import tqdm

from envs.alfworld.game import SPLITS, TASKS
from envs.alfworld.games import STEP_LIMITS, generated_game, path_of
from envs.alfworld.generator import GameId
from envs.alfworld.translation import translate
from envs.base import SimulatorError


def make(game_id: GameId) -> tuple[GameId, bool]:
    """Makes a game and its translation, and says whether the game was there already."""
    known = path_of(game_id).exists()
    game = generated_game(game_id)
    translate(game.domain, game.problem)
    return game_id, known


def main() -> None:
    """Entry point."""
    arguments = _parser().parse_args()
    splits = SPLITS if arguments.split == "all" else (arguments.split,)
    tasks = TASKS if "all" in arguments.tasks else tuple(arguments.tasks)
    wanted = [GameId(s, t, arguments.rooms, n) for s in splits for t in tasks for n in range(arguments.games)]
    began, made, known = time.monotonic(), Counter[str](), 0
    # Forked children would share the state of libraries that a parent has used.
    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for game_id, was_known in tqdm(pool.map(make, wanted), total=len(wanted), unit="game"):
                made[f"{game_id.split} {game_id.task}"] += not was_known
                known += was_known
        except SimulatorError as error:
            sys.exit(f"error: {error}")
    for name, count in made.items():
        print(f"{name}: {count} made")
    print(f"{made.total()} games made and {known} found in {time.monotonic() - began:.1f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vldac envs games", description="Makes games ahead of time.")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="train")
    parser.add_argument("--tasks", nargs="+", choices=(*TASKS, "all"), default=["all"], metavar="TASK")
    parser.add_argument("--rooms", choices=tuple(STEP_LIMITS), default="all")
    parser.add_argument("--games", type=_positive, default=200, help="of each split and task type")
    parser.add_argument("--workers", type=_positive, default=1, help="processes")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


if __name__ == "__main__":
    main()
