"""The screen of NetHack in words, as the NetHack Language Wrapper tells it.

Each function gives what the function of the same name in `src/main.cpp` of ngoodger/nle-language-wrapper gives (MIT
license; BALROG uses the copy in balrog-nle 0.9.0), byte for byte, oddities included.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.suites.balrog.nethack.glyphs import OPAQUE, glyph_names

#: Of the map; the terminal has a line of messages above it and one column more.
HEIGHT, WIDTH = 21, 79

_DISTANCES = ("very far", "far", "near", "very near", "adjacent")
_DIRECTIONS = (
    *("north", "northnortheast", "northeast", "eastnortheast", "east", "eastsoutheast", "southeast", "southsoutheast"),
    *("south", "southsouthwest", "southwest", "westsouthwest", "west", "westnorthwest", "northwest", "northnorthwest"),
)
_ORDER = {
    (distance, direction): (near, turn)
    for near, distance in enumerate(_DISTANCES)
    for turn, direction in enumerate(_DIRECTIONS)
}
#: (dx, dy) of the lines of sight, y downwards, in the order in which they are followed.
_RAYS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))

_ALIGNMENTS = {-128: "None", -1: "Chaotic", 0: "Neutral", 1: "Lawful"}
_HUNGER = dict(enumerate(("Satiated", "Not Hungry", "Hungry", "Weak", "Fainting", "Fainted", "Starved")))
_BURDENS = dict(enumerate(("Unencumbered", "Burdened", "Stressed", "Strained", "Overtaxed", "Overloaded")))
#: By bit, in the order in which the wrapper's hash table lists them.
_CONDITIONS = {
    11: "Flying",
    10: "Levitating",
    9: "Hallucinating",
    8: "Confused",
    7: "Stunned",
    6: "Deaf",
    5: "Blind",
    4: "Terminally Ill",
    3: "Food Poisoning",
    2: "Strangled",
    1: "Slimed",
    12: "Riding",
    0: "Stoned",
}

_PLURALS = {
    "can of grease": "cans of grease",
    "Master of Thieves": "Masters of Thieves",
    "ice": "area of ice",
    "lava": "area of lava",
}
_PLURAL_HEADS = ("boom", "shield", "swallow", "scroll", "worthless piece", "unknown creature")

#: What the wrapper takes for white space: its list has the octal escape \32 and ends at the \0 behind that.
_SPACE = b" \x1a"


def where(dx: int, dy: int) -> tuple[str, str]:
    """Distance and direction of a place, such as ("near", "northnortheast").

    Args:
        dx: columns to the east.
        dy: rows to the north.
    """
    farthest, diagonal = max(abs(dx), abs(dy)), min(abs(dx), abs(dy))
    if farthest in (1, 2):
        distance = "adjacent" if farthest == 1 else "very near"
    else:
        distance = "near" if 3 <= farthest <= 5 else "far" if 6 <= farthest <= 19 else "very far"
    vertical, horizontal = "north" if dy > 0 else "south", "east" if dx > 0 else "west"
    straight = vertical if abs(dy) > diagonal else horizontal if abs(dx) > diagonal else ""
    return distance, straight + (vertical + horizontal if diagonal else "")


def text_glyphs(glyphs: NDArray[np.int16], blstats: NDArray[np.int64]) -> str:
    """What is around the player, the farthest first, one line for each thing and distance.

    Args:
        glyphs: (21, 79) int16.
        blstats: (27,) int64, the bottom lines.
    """
    x, y = int(blstats[0]), int(blstats[1])
    seen = [*_anywhere(glyphs, x, y), *_in_sight(glyphs, x, y)]
    seen.sort(key=lambda thing: _ORDER[thing[1], thing[2]])
    return "\n".join(f"{name} {distance} {_listed(directions)}" for (name, distance), directions in _gathered(seen))


def _anywhere(glyphs: NDArray[np.int16], x: int, y: int) -> Iterator[tuple[str, str, str]]:
    """Name, distance and direction of everything told wherever it is, row by row."""
    names = glyph_names().anywhere
    for row, line in enumerate(glyphs.tolist()):
        for column, glyph in enumerate(line):
            if names[glyph] and (row, column) != (y, x):
                yield names[glyph], *where(column - x, y - row)


def _in_sight(glyphs: NDArray[np.int16], x: int, y: int) -> Iterator[tuple[str, str, str]]:
    """The same of what is only told along the lines of sight, up to nine steps away."""
    names = glyph_names().in_sight
    for dx, dy in _RAYS:
        for step in range(1, 10):
            column, row = x + step * dx, y + step * dy
            if not (0 <= column < WIDTH and 0 <= row < HEIGHT):
                break
            name = names[glyphs[row, column]]
            if name:
                yield name, *where(step * dx, -step * dy)
            if name in OPAQUE:
                break


def _gathered(seen: list[tuple[str, str, str]]) -> list[tuple[tuple[str, str], list[str]]]:
    """Directions by name and distance; those that occur more than once go with the plural of the name."""
    directions: dict[tuple[str, str], list[str]] = {}
    for name, distance, direction in seen:
        directions.setdefault((name, distance), []).append(direction)
    keys: list[tuple[str, str]] = []
    gathered: dict[tuple[str, str], list[str]] = {}
    for (name, distance), found in directions.items():
        distinct = list(dict.fromkeys(found))
        for key, once in (((name, distance), True), ((plural(name), distance), False)):
            kept = [direction for direction in distinct if (found.count(direction) == 1) is once]
            if kept:
                # A noun that is its own plural ("iron shoes") loses its single directions and is told twice, as in
                # compress_by_glyph of the wrapper.
                keys.append(key)
                gathered[key] = kept
    return [(key, gathered[key]) for key in keys]


def _listed(directions: list[str]) -> str:
    if len(directions) <= 2:
        return " and ".join(directions)
    return ", ".join(directions[:-1]) + f", and {directions[-1]}"


def plural(noun: str) -> str:
    """The wrapper's plural of a noun, which is not always English ("area of ice", "couchs")."""
    if noun.endswith(("boots", "shoes", "scales", "lenses", "bars")):
        return noun
    if noun in _PLURALS:
        return _PLURALS[noun]
    head = next((head for head in _PLURAL_HEADS if noun.startswith(head + " ")), None)
    if head is not None:
        return f"{head}s{noun.removeprefix(head)}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    if noun.endswith("f"):
        return noun.removesuffix("f").removesuffix("f") + "ves"
    return noun + ("es" if noun.endswith(("z", "x", "s", "sh")) else "s")


def text_cursor(glyphs: NDArray[np.int16], blstats: NDArray[np.int64], tty_cursor: NDArray[np.uint8]) -> str:
    """What the cursor is on, "" where that is no place of the map.

    Args:
        glyphs: (21, 79) int16.
        blstats: (27,) int64, the bottom lines.
        tty_cursor: (2,) uint8, row and column of the terminal.
    """
    x, y = int(tty_cursor[1]), int(tty_cursor[0]) - 1
    # A cursor in the terminal's last column is taken to be on the first place of the next row.
    place = x + y * WIDTH
    if not 0 < place < glyphs.size:
        return ""
    name = glyph_names().anywhere[glyphs.reshape(-1)[place]]
    dx, dy = x - int(blstats[0]), int(blstats[1]) - y
    return f"Yourself a {name}" if dx == dy == 0 else " ".join((*where(dx, dy), name))


def text_blstats(blstats: NDArray[np.int64]) -> str:
    """The bottom lines, one value a line, from (27,) int64."""
    b = blstats.tolist()
    conditions = [name for bit, name in _CONDITIONS.items() if b[25] >> bit & 1]
    return "\n".join(
        (
            f"Strength: {b[3]}/{b[2]}",
            f"Dexterity: {b[4]}",
            f"Constitution: {b[5]}",
            f"Intelligence: {b[6]}",
            f"Wisdom: {b[7]}",
            f"Charisma: {b[8]}",
            f"Depth: {b[12]}",
            f"Gold: {b[13]}",
            f"HP: {b[10]}/{b[11]}",
            f"Energy: {b[14]}/{b[15]}",
            f"AC: {b[16]}",
            f"XP: {b[18]}/{b[19]}",
            f"Time: {b[20]}",
            f"Position: {b[0]}|{b[1]}",
            f"Hunger: {_HUNGER.get(b[21], '')}",
            f"Monster Level: {b[17]}",
            f"Encumbrance: {_BURDENS.get(b[22], '')}",
            f"Dungeon Number: {b[23]}",
            f"Level Number: {b[24]}",
            f"Score: {b[9]}",
            f"Alignment: {_ALIGNMENTS.get(b[26], '')}",
            f"Condition: {' '.join(conditions) or 'None'}",
        )
    )


def text_inventory(inv_strs: NDArray[np.uint8], inv_letters: NDArray[np.uint8]) -> str:
    """The inventory, one item a line after its letter, from (55, 80) and (55,) uint8."""
    letters = bytes(inv_letters).partition(b"\0")[0]
    items = (bytes(item).partition(b"\0")[0] for item in inv_strs)
    return b"\n".join(bytes([letter]) + b": " + item for letter, item in zip(letters, items, strict=False)).decode(
        "latin-1"
    )


def text_message(tty_chars: NDArray[np.uint8]) -> str:
    """The message on the terminal's first line, or the whole of a menu, a longer message or the screen of death.

    Args:
        tty_chars: (24, 80) uint8.
    """
    screen, columns = bytes(tty_chars), tty_chars.shape[1]
    rows = [screen[start : start + columns] for start in range(0, len(screen), columns)]
    first, second = _trim(rows[0]), _trim(rows[1])
    if not first and not second:
        return ""
    indent = len(rows[0]) - len(rows[0].lstrip(b" "))
    if indent == columns:
        # The wrapper then reads each line from the last column of the line before, and the first one from the byte
        # before the array, which is zero.
        screen = b"\0" + screen
        rows = [screen[start : start + columns + 1] for start in range(0, len(screen) - 1, columns)]
        indent = 0
    dead = b"Points" in second or b"list!" in second
    told, blank = b"", 0
    for row in rows:
        line = _trim(row[indent:])
        blank = 0 if line else blank + 1
        told += line
        if _ends_page(line):
            return told.decode("latin-1")
        told += b"\n" if line else b""
        # The screen of death has no mark at its end.
        if dead and blank > 1:
            return told.decode("latin-1")
    return first.decode("latin-1")


def _trim(line: bytes) -> bytes:
    """Without the spaces at both ends; nothing is left of a single character, as in the wrapper."""
    start = len(line) - len(line.lstrip(_SPACE))
    return b"" if start == len(line) - 1 else line.strip(_SPACE)


def _ends_page(line: bytes) -> bool:
    """Whether it ends a page: "(1 of 5)", "--More--" or "(end)"; "(1 of 10)" is not known to."""
    of = line.find(b" of ")
    counted = of >= 2 and line[of - 2 : of - 1] == b"(" and line[of + 5 : of + 6] == b")"
    return counted or b"--More--" in line or b"(end)" in line
