"""What each of NetHack's glyphs is called in the language observation.

Names come from NetHack's own tables through the package nle; how they are put together, and the names of the map's
features with their misspelling, follow the NetHack Language Wrapper (ngoodger/nle-language-wrapper, `src/main.cpp`,
MIT license), whose words the agents of BALROG read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from nle import nethack

_SWALLOWED = tuple(
    f"swallow {place}"
    for place in (
        *("top left", "top center", "top right", "middle left"),
        *("middle right", "bottom left", "bottom center", "bottom right"),
    )
)
#: Features of the map, in the order of NetHack's `defsyms`.
FEATURES = (
    tuple(
        """
    dark area|vertical wall|horizontal wall|northwest room corner|northeast room corner|southwest corner
    southeast corner|cross wall|t up wall|t down wall|t west wall|t east wall|doorway|vertical open door
    horizontal open door|vertical closed door|horizontal closed door|bars|tree|room floor|dark room floor
    corridor floor|lit corridor floor|stairs up|stairs down|ladder up|ladder down|alter|grave|throne|sink|fountain
    pool|ice|lava|vertical lowered drawbridge|horizontal lowered drawbridge|vertical raised drawbridge
    horizontal raised drawbridge|air floor|cloud floor|water floor|arrow trap|dart trap|falling rock trap
    squeaky board|bear trap|land mine|rolling boulder trap|sleeping gas trap|rust trap|fire trap|pit|spiked pit|hole
    trap door|teleportation trap|level teleporter|magic portal|web|statue trap|magic trap|anti magic trap
    polymorph trap|vibrating square|vertical beam|horizontal beam|left slant beam|right slant beam|dig beam
    flash beam|boom left|boom right|shield 1|shield 2|shield 3|shield 4|poison cloud|valid position
    """.strip()
        .replace("\n    ", "|")
        .split("|")
    )
    + _SWALLOWED
)
#: Never told.
FLOORS = frozenset({"room floor", "dark room floor", "corridor floor", "lit corridor floor"})
#: Told wherever they are on the map, as monsters and objects are; other features only along the eight lines of sight.
LANDMARKS = frozenset(
    {
        *("horizontal closed door", "vertical closed door", "bars", "tree", "stairs up", "stairs down", "ladder up"),
        *("ladder down", "alter", "grave", "throne", "sink", "fountain", "pool", "ice", "lava"),
        *("vertical raised drawbridge", "horizontal raised drawbridge"),
    }
)
#: Features on a line of sight that end it. A landmark never does: it is not looked up on the line.
OPAQUE = frozenset(
    {
        *("dark area", "vertical wall", "horizontal wall", "northwest room corner", "northeast room corner"),
        *("southwest corner", "southeast corner", "cross wall", "t up wall", "t down wall", "t west wall"),
        "t east wall",
    }
)

_EXPLOSION = tuple(f"explosion {y} {x}" for y in ("top", "middle", "bottom") for x in ("left", "center", "right"))
_BEAMS = ("horizontal zap beam", "vertical zap beam", "left slant zap beam", "right slant zap beam")
_WARNINGS = tuple(
    f"unknown creature causing you {feeling}"
    for feeling in ("worry", "concern", "anxiety", "disquiet", "alarm", "dread")
)


@dataclass(frozen=True)
class GlyphNames:
    """The names of all glyphs, by number; "" where a view does not tell of one.

    Attributes:
        anywhere: of what is told wherever it is.
        in_sight: of what is told only along the lines of sight.
    """

    anywhere: tuple[str, ...]
    in_sight: tuple[str, ...]


@lru_cache(maxsize=1)
def glyph_names() -> GlyphNames:
    """Both names of every glyph."""
    anywhere = tuple(_name(glyph) for glyph in range(nethack.MAX_GLYPH))
    in_sight = [""] * nethack.MAX_GLYPH
    for number, feature in enumerate(FEATURES):
        if feature not in FLOORS | LANDMARKS:
            in_sight[nethack.GLYPH_CMAP_OFF + number] = feature
    return GlyphNames(anywhere, tuple(in_sight))


def _name(glyph: int) -> str:  # noqa: PLR0911  # one line for each range of glyphs, from the last to the first
    if glyph >= nethack.GLYPH_STATUE_OFF:
        return f"{_monster(glyph - nethack.GLYPH_STATUE_OFF)} statue"
    if glyph >= nethack.GLYPH_WARNING_OFF:
        return _WARNINGS[glyph - nethack.GLYPH_WARNING_OFF]
    if glyph >= nethack.GLYPH_SWALLOW_OFF:
        return _SWALLOWED[(glyph - nethack.GLYPH_SWALLOW_OFF) % len(_SWALLOWED)]
    if glyph >= nethack.GLYPH_ZAP_OFF:
        return _BEAMS[(glyph - nethack.GLYPH_ZAP_OFF) % len(_BEAMS)]
    if glyph >= nethack.GLYPH_EXPLODE_OFF:
        return _EXPLOSION[(glyph - nethack.GLYPH_EXPLODE_OFF) % len(_EXPLOSION)]
    if glyph >= nethack.GLYPH_CMAP_OFF:
        feature = FEATURES[glyph - nethack.GLYPH_CMAP_OFF]
        return feature if feature in LANDMARKS else ""
    if glyph >= nethack.GLYPH_OBJ_OFF:
        return _object(glyph - nethack.GLYPH_OBJ_OFF)
    if glyph >= nethack.GLYPH_RIDDEN_OFF:
        return f"ridden {_monster(glyph - nethack.GLYPH_RIDDEN_OFF)}"
    if glyph >= nethack.GLYPH_BODY_OFF:
        return f"{_monster(glyph - nethack.GLYPH_BODY_OFF)} corpse"
    if glyph >= nethack.GLYPH_DETECT_OFF:
        return f"detected {_monster(glyph - nethack.GLYPH_DETECT_OFF)}"
    if glyph >= nethack.GLYPH_INVIS_OFF:
        return "invisible creature"
    if glyph >= nethack.GLYPH_PET_OFF:
        return f"tame {_monster(glyph - nethack.GLYPH_PET_OFF)}"
    return _monster(glyph)


def _monster(number: int) -> str:
    return nethack.permonst(number).mname


def _object(number: int) -> str:  # noqa: PLR0911  # one line for each class of objects
    entry = nethack.objclass(number)
    kind = ord(entry.oc_class) if isinstance(entry.oc_class, str) else entry.oc_class
    name, look = nethack.OBJ_NAME(entry) or "", nethack.OBJ_DESCR(entry) or ""
    match kind:
        case nethack.ARMOR_CLASS | nethack.TOOL_CLASS:
            return look or name
        case nethack.RING_CLASS:
            return f"{look} ring"
        case nethack.AMULET_CLASS:
            return look if "Amulet" in look else f"{look} amulet"
        case nethack.FOOD_CLASS:
            return name + look
        case nethack.POTION_CLASS:
            return f"{look} potion"
        case nethack.SCROLL_CLASS:
            return f"scroll labeled {look}"
        case nethack.SPBOOK_CLASS:
            return f"{look} spellbook"
        case nethack.WAND_CLASS:
            return f"{look} wand"
        case nethack.GEM_CLASS:
            return name if look in name else f"{look} {name}"
        case nethack.VENOM_CLASS:
            return f"splash of {name}"
        case _:
            return name
