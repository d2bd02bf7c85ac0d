"""The actions of NLE and MiniHack in words, with the key that each one presses.

Words and keys are those of the NetHack Language Wrapper (`nle_language_wrapper.py`), the choice of them is BALROG's
(`create_action_space` in `balrog/environments/nle/base.py`, `balrog/environments/minihack/__init__.py`).
"""

from __future__ import annotations

import string

#: The key that shows the rest of a message.
MORE = ord("\r")

#: As NetHack writes keys: `^d` with Control, `M-f` with Meta.
_KEYS = dict(
    line.rsplit(maxsplit=1)
    for line in """
    north k|east l|south j|west h|northeast u|southeast n|southwest b|northwest y
    far north K|far east L|far south J|far west H|far northeast U|far southeast N|far southwest B|far northwest Y
    up <|down >|wait .|more ^m|adjust M-a|apply a|attributes ^x|call C|cast Z|chat M-c|close c|dip M-d|drop d
    droptype D|eat e|esc ^[|engrave E|enhance M-e|fire f|fight F|force M-f|inventory i|inventtype I|invoke M-i
    jump M-j|kick ^d|look :|loot M-l|monster M-m|move m|movefar M|offer M-o|open o|pay p|pickup ,|pray M-p|puton P
    quaff q|quiver Q|read r|remove R|ride M-R|rub M-r|rush g|rush2 G|search s|seeamulet "|seearmor [|seegold $
    seerings =|seespells +|seetools (|seetrap ^|seeweapon )|shell !|sit M-s|swap x|takeoff T|takeoffall A|throw t
    tip M-T|turnundead M-t|twoweapon X|untrap M-u|versionshort v|wear W|wield w|wipe M-w|zap z
    """.strip()
    .replace("\n    ", "|")
    .split("|")
)


def _code(key: str) -> int:
    match key[:-1]:
        case "M-":
            return 0x80 | ord(key[-1])
        case "^":
            return 0x1F & ord(key[-1])
        case _:
            return ord(key)


#: Of NLE: commands, then the letters and digits that answer the game's questions. BALROG's list goes on with "00" to
#: "99", for which it knows no key: its episode dies of a ValueError. Here they are no actions, so they cost an `esc`.
NLE = {word: _code(key) for word, key in _KEYS.items()} | {
    "space": ord(" "),
    **{character: ord(character) for character in string.ascii_letters + string.digits},
}

_CARDINAL = ("north", "east", "south", "west")
_COMPASS = (*_CARDINAL, "northeast", "southeast", "southwest", "northwest")
_DOORS = (*_COMPASS, "open", "kick", "search")
_SKILLS = (
    *_COMPASS,
    *(f"far {direction}" for direction in _COMPASS),
    *("down", "wait", "more", "apply", "close", "eat", "force", "kick", "loot", "open", "pickup", "pray", "puton"),
    *("quaff", "search", "zap"),
)


def _keys(words: tuple[str, ...]) -> dict[str, int]:
    return {word: NLE[word] for word in words}


#: Of BALROG's MiniHack tasks.
MINIHACK = {
    "MiniHack-Boxoban-Hard-v0": _keys(_CARDINAL),
    "MiniHack-Boxoban-Medium-v0": _keys(_CARDINAL),
    "MiniHack-MazeWalk-9x9-v0": _keys(_COMPASS),
    "MiniHack-MazeWalk-15x15-v0": _keys(_COMPASS),
    "MiniHack-Corridor-R3-v0": _keys(_DOORS),
    "MiniHack-CorridorBattle-Dark-v0": _keys(_COMPASS),
    "MiniHack-Quest-Easy-v0": _keys(_SKILLS),
    "MiniHack-Quest-Medium-v0": _keys(_SKILLS),
}
