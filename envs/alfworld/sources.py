"""Which games a split has: downloaded ones where there are any, generated ones elsewhere."""

from __future__ import annotations

from envs.alfworld.games import Games, GeneratedGames
from envs.alfworld.official import OfficialGames, data_directory
from envs.base import SimulatorError

#: Generated games of each task type in each split, where the caller gives no number.
_GAMES = 200


def open_games(split: str, tasks: tuple[str, ...], rooms: str, games: int | None, data: str) -> Games:
    """The games of a split; see the options of `ALFWorld`.

    Raises:
        ValueError: official games of small rooms are asked for.
        SimulatorError: official games are asked for and not there.
    """
    if data != "generated" and rooms == "all":
        official = OfficialGames(split, tasks, games)
        if not official.missing:
            return official
        if data == "official":
            raise SimulatorError(
                f"{data_directory()} holds no official games of {', '.join(official.missing)} in {split}; run "
                'alfworld-download, or set data to "generated"'
            )
    elif data == "official":
        raise ValueError('rooms is "small", which no official game has; set rooms to "all" or data to "generated"')
    return GeneratedGames(split, rooms, _GAMES if games is None else games)
