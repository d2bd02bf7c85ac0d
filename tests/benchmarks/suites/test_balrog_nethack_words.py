"""What is shown of NetHack: words, pictures, actions, instructions, and what progress is worth."""

from __future__ import annotations

import numpy as np
import pytest
from nle import nethack
from numpy.typing import NDArray

from benchmarks.suites.balrog.nethack import actions, language, tiles
from benchmarks.suites.balrog.nethack.glyphs import FEATURES, glyph_names
from benchmarks.suites.balrog.nethack.instructions import minihack_instruction, nle_instruction
from benchmarks.suites.balrog.nethack.progress import DEPTH, EXPERIENCE, progression

FLOOR = nethack.GLYPH_CMAP_OFF + FEATURES.index("room floor")
PLAYER = (40, 10)  # column, row


def feature(name: str) -> int:
    return nethack.GLYPH_CMAP_OFF + FEATURES.index(name)


def monster(name: str) -> int:
    return next(number for number in range(nethack.NUMMONS) if nethack.permonst(number).mname == name)


def thing(name: str) -> int:
    return glyph_names().anywhere.index(name)


def around(things: dict[tuple[int, int], int]) -> str:
    """The words for a lit floor with things at (columns to the east, rows to the south) of the player."""
    glyphs = np.full((language.HEIGHT, language.WIDTH), FLOOR, np.int16)
    for (dx, dy), glyph in things.items():
        glyphs[PLAYER[1] + dy, PLAYER[0] + dx] = glyph
    return language.text_glyphs(glyphs, blstats())


def blstats(**values: int) -> NDArray[np.int64]:
    line = np.zeros(nethack.NLE_BLSTATS_SIZE, np.int64)
    line[:2] = PLAYER
    for name, value in values.items():
        line[getattr(nethack, f"NLE_BL_{name}")] = value
    return line


def terminal(*lines: str) -> NDArray[np.uint8]:
    rows = [line.ljust(80) for line in lines] + [" " * 80] * (24 - len(lines))
    return np.frombuffer("".join(rows).encode("latin-1"), np.uint8).reshape(24, 80)


@pytest.mark.parametrize(
    ("dx", "dy", "words"),
    [
        (1, 0, ("adjacent", "east")),
        (-1, 1, ("adjacent", "northwest")),
        (0, -2, ("very near", "south")),
        (2, 1, ("very near", "eastnortheast")),
        (-1, 3, ("near", "northnorthwest")),
        (5, -5, ("near", "southeast")),
        (-6, -1, ("far", "westsouthwest")),
        (1, -19, ("far", "southsoutheast")),
        (-20, 0, ("very far", "west")),
    ],
)
def test_a_place_is_told_by_its_distance_and_direction(dx: int, dy: int, words: tuple[str, str]) -> None:
    assert language.where(dx, dy) == words


def test_the_farthest_is_told_first_and_then_from_the_north_clockwise() -> None:
    things = {(1, 0): monster("jackal"), (-7, 0): feature("fountain"), (0, -7): thing("dagger"), (2, 0): thing("arrow")}
    assert around(things).split("\n") == [
        "dagger far north",
        "fountain far west",
        "arrow very near east",
        "jackal adjacent east",
    ]


def test_what_is_alike_at_a_distance_is_told_in_one_line() -> None:
    rat = monster("giant rat")
    assert around({(1, 0): rat, (0, 1): rat}) == "giant rat adjacent east and south"
    assert around({(1, 0): rat, (0, 1): rat, (-1, 0): rat}) == "giant rat adjacent east, south, and west"
    assert around({(3, 0): rat, (4, 0): rat, (0, 4): rat}) == "giant rat near south\ngiant rats near east"


def test_a_noun_that_is_its_own_plural_is_told_twice_and_loses_its_single_directions() -> None:
    shoes = thing("hard shoes")
    assert around({(3, 0): shoes, (4, 0): shoes, (0, 4): shoes}) == "hard shoes near east\nhard shoes near east"


def test_walls_are_told_along_eight_lines_of_nine_steps_and_hide_what_is_behind_them() -> None:
    wall, trap, stairs = feature("vertical wall"), feature("bear trap"), feature("stairs down")
    assert around({(9, 0): wall, (0, 10): wall}) == "vertical wall far east"
    assert around({(2, 1): wall}) == ""
    assert around({(2, 0): wall, (3, 0): trap}) == "vertical wall very near east"
    assert around({(2, 0): trap, (3, 0): wall}) == "vertical wall near east\nbear trap very near east"
    # A landmark is seen wherever it is, and hides nothing.
    assert around({(2, 0): wall, (3, 0): stairs}) == "stairs down near east\nvertical wall very near east"
    assert around({(2, 0): feature("vertical closed door"), (3, 0): wall}).startswith("vertical wall near east\n")


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("newt", "newts"),
        ("jelly", "jellies"),
        ("tame pony", "tame ponies"),
        ("monkey", "monkeys"),
        ("lynx", "lynxes"),
        ("leash", "leashes"),
        ("giant bat corpse", "giant bat corpses"),
        ("bear trap", "bear traps"),
        ("cockatrice corpse", "cockatrice corpses"),
        ("wolf", "wolves"),
        ("dwarf", "dwarves"),
        ("skiff", "skives"),
        ("couch", "couchs"),
        ("fungus", "funguses"),
        ("ice", "area of ice"),
        ("bars", "bars"),
        ("combat boots", "combat boots"),
        ("can of grease", "cans of grease"),
        ("scroll labeled FOOBIE BLETCH", "scrolls labeled FOOBIE BLETCH"),
        ("worthless piece of green glass", "worthless pieces of green glass"),
        ("unknown creature causing you dread", "unknown creatures causing you dread"),
    ],
)
def test_plurals_are_the_wrappers(one: str, many: str) -> None:
    assert language.plural(one) == many


def test_glyphs_have_the_wrappers_names() -> None:
    names = set(glyph_names().anywhere)
    assert len(glyph_names().anywhere) == len(glyph_names().in_sight) == nethack.MAX_GLYPH
    told = {"alter", "boulder", "gold piece", "invisible creature", "newt corpse", "detected newt", "ridden pony"}
    told |= {"newt statue", "platinum wand", "dark potion", "tame kitten", "food ration", "splash of acid venom"}
    told |= {"scroll labeled ZELGO MER", "parchment spellbook", "wooden ring"}
    assert told <= names
    assert "room floor" not in names | set(glyph_names().in_sight)
    assert glyph_names().in_sight[nethack.GLYPH_CMAP_OFF] == "dark area"


def test_the_cursor_is_told_where_it_is_on_the_map() -> None:
    glyphs = np.full((language.HEIGHT, language.WIDTH), FLOOR, np.int16)
    glyphs[PLAYER[1], PLAYER[0]] = monster("samurai")
    glyphs[PLAYER[1], PLAYER[0] + 3] = feature("fountain")

    def cursor(row: int, column: int) -> str:
        return language.text_cursor(glyphs, blstats(), np.array([row, column], np.uint8))

    assert cursor(PLAYER[1] + 1, PLAYER[0]) == "Yourself a samurai"  # the terminal's first row is no row of the map
    assert cursor(PLAYER[1] + 1, PLAYER[0] + 3) == "near east fountain"
    assert cursor(0, 5) == cursor(23, 5) == ""


def test_the_bottom_lines_are_told_in_words() -> None:
    line = blstats(STR125=18, STR25=19, HP=7, HPMAX=12, DEPTH=3, XP=2, EXP=25, TIME=99, HUNGER=2, CAP=1, ALIGN=-1)
    told = language.text_blstats(line).split("\n")
    assert len(told) == 22
    assert told[0] == "Strength: 18/19"
    assert {"HP: 7/12", "Depth: 3", "XP: 2/25", "Time: 99", "Position: 40|10", "Hunger: Hungry"} <= set(told)
    assert {"Encumbrance: Burdened", "Alignment: Chaotic"} <= set(told)
    assert told[-1] == "Condition: None"
    line = blstats(CONDITION=nethack.BL_MASK_BLIND | nethack.BL_MASK_CONF | nethack.BL_MASK_STONE)
    assert language.text_blstats(line).endswith("Condition: Confused Blind Stoned")


def test_the_inventory_ends_at_the_first_empty_letter() -> None:
    strings, letters = np.zeros((55, 80), np.uint8), np.zeros(55, np.uint8)
    for row, item in enumerate((b"a dagger", b"2 apples", b"nothing")):
        strings[row, : len(item)] = list(item)
    letters[:2] = list(b"ac")
    assert language.text_inventory(strings, letters) == "a: a dagger\nc: 2 apples"
    assert language.text_inventory(strings, np.zeros(55, np.uint8)) == ""


def test_a_message_is_the_first_line_of_the_terminal() -> None:
    assert language.text_message(terminal("You see here a dagger.  ", "", "  |.@.|")) == "You see here a dagger."
    assert language.text_message(terminal()) == ""
    assert language.text_message(terminal("", "", "  |.@.|")) == ""


@pytest.mark.parametrize("end", ["--More--", "(end)", "(1 of 2)"])
def test_a_menu_is_told_down_to_its_end(end: str) -> None:
    page = terminal("|..|   Weapons", "|..|   a - a dagger", "", f"|..|   {end}", "|..|", "|..|")
    # All lines are cut where the first one begins, and this one begins at the left.
    assert language.text_message(page) == f"|..|   Weapons\n|..|   a - a dagger\n|..|   {end}"
    page = terminal("       Weapons", "|..|   a - a dagger", f"|..|   {end}", "|..|")
    assert language.text_message(page) == f"Weapons\na - a dagger\n{end}"


def test_oddities_of_the_wrapper_are_kept() -> None:
    assert language.text_message(terminal("You hear (1 of 10) things")) == "You hear (1 of 10) things"
    assert language.text_message(terminal(" " * 79 + "x")) == ""
    assert language.text_message(terminal("", "Goodbye", "--More--")) == "\0\nGoodbye\n--More--"
    dead = terminal("", " No  Points     Name", "  1  120  Agent", "", "", "more")
    assert language.text_message(dead) == "\0\nNo  Points     Name\n1  120  Agent\n"


def test_actions_press_the_keys_of_nethack() -> None:
    keys = {"north": "k", "far southwest": "B", "down": ">", "more": "\r", "esc": "\x1b", "kick": "\x04", "apply": "a"}
    keys |= {"space": " ", "a": "a", "Z": "Z", "7": "7", "seegold": "$", "versionshort": "v"}
    assert {word: chr(actions.NLE[word]) for word in keys} == keys
    assert actions.NLE["pray"] == nethack.Command.PRAY == 0x80 | ord("p")
    assert set(actions.NLE.values()) - set(map(int, nethack.ACTIONS)) == set()
    assert len(actions.NLE) == 148
    assert not {"travel", "annotate", "overview", "minus", "00", "42", "North", ""} & set(actions.NLE)


def test_each_task_of_minihack_has_its_own_actions() -> None:
    compass = ["north", "east", "south", "west", "northeast", "southeast", "southwest", "northwest"]
    words = {task: list(keys) for task, keys in actions.MINIHACK.items()}
    assert words["MiniHack-Boxoban-Hard-v0"] == words["MiniHack-Boxoban-Medium-v0"] == compass[:4]
    assert words["MiniHack-MazeWalk-9x9-v0"] == words["MiniHack-CorridorBattle-Dark-v0"] == compass
    assert words["MiniHack-Corridor-R3-v0"] == [*compass, "open", "kick", "search"]
    assert len(words["MiniHack-Quest-Easy-v0"]) == 32
    assert "up" not in words["MiniHack-Quest-Easy-v0"]
    assert len(words) == 8


def test_instructions_list_the_actions_and_the_goal() -> None:
    for task, keys in actions.MINIHACK.items():
        lines = minihack_instruction(task).split("\n")
        assert [line.partition(":")[0] for line in lines if line.partition(":")[0] in actions.NLE] == list(keys)
    assert "stairs down" in minihack_instruction("MiniHack-Corridor-R3-v0")
    assert "onto a fountain" in minihack_instruction("MiniHack-Boxoban-Hard-v0")
    assert "fight monsters" in minihack_instruction("MiniHack-Quest-Medium-v0")
    assert "as far" in minihack_instruction("MiniHack-MazeWalk-9x9-v0")
    listed = [line.partition(": ")[0] for line in nle_instruction().split("\n") if ": " in line]
    assert {"north", "far west", "travel", "zap", "0", "9"} <= set(listed)


def test_progress_is_the_better_of_depth_and_experience() -> None:
    assert (len(DEPTH), len(EXPERIENCE)) == (50, 30)
    assert list(EXPERIENCE) == sorted(EXPERIENCE)
    assert progression(1, 1) == 0
    assert progression(2, 1) == 0.015392269075361172
    assert progression(1, 2) == 0.01847840456172601
    assert progression(10, 8) == 0.12558597019922987
    assert progression(50, 30) == 0.8067964442444019
    assert progression(0, 0) == progression(51, 31) == progression(-1, -1) == 0


def test_the_map_is_drawn_in_tiles() -> None:
    glyphs = np.full((21, 79), FLOOR, np.int16)
    plain = tiles.draw(glyphs)
    glyphs[3, 5] = monster("newt")
    drawn = tiles.draw(glyphs)
    assert drawn.shape == (336, 1264, 3)
    assert drawn.dtype == np.uint8
    changed = (drawn != plain).any(axis=2)
    assert changed[48:64, 80:96].any()
    changed[48:64, 80:96] = False
    assert not changed.any()


def test_tiles_are_read_strictly() -> None:
    palette = ". = (71, 108, 108)\nA = (1, 2, 3)\n"
    rows = "  A" + "." * 15 + "\n" + ("  " + "." * 16 + "\n") * 15
    read = tiles.read_tiles(f"{palette}# tile 0 (one)\n{{\n{rows}}}\n# tile 1 (two)\n{{\n{rows}}}\n")
    assert read.shape == (2, 16, 16, 3)
    assert read[1, 0, 0].tolist() == [1, 2, 3]
    assert read[0, 1, 0].tolist() == [71, 108, 108]
    for wrong in (rows.replace("A", "B"), rows[3:], rows + rows):
        with pytest.raises(ValueError, match="16 lines of 16 colours"):
            tiles.read_tiles(f"{palette}# tile 0 (one)\n{{\n{wrong}}}\n")
