"""What an agent is told before a game, in our words.

Which actions are listed, in which order, and what is said of them follows BALROG's `get_instruction_prompt`
(`balrog/environments/nle/__init__.py` and `balrog/environments/minihack/__init__.py`). BALROG lists some words for the
whole game that it does not take (`annotate`, `overview`, `teleport`, `travel`, `minus`, `apos`) and takes some
that it does not list (`adjust`, single letters); so does this.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.suites.balrog.nethack.actions import MINIHACK

_COMPASS = ("north", "east", "south", "west", "northeast", "southeast", "southwest", "northwest")
_MOVES = {direction: f"go one step {direction}" for direction in _COMPASS} | {
    f"far {direction}": f"go {direction} for as long as nothing of interest happens" for direction in _COMPASS
}

#: Of the whole game.
_NLE = _MOVES | {
    "up": "climb the stairs up",
    "down": "climb the stairs down (tip: this works only on a tile with stairs down)",
    "wait": "let one turn pass without doing anything",
    "more": "read on in a message (tip: use it if, and only if, the current message ends with --More--)",
    "annotate": "attach a note to this level",
    "apply": "use a tool",
    "call": "give a name to a monster or object, or make a note",
    "cast": "cast one of your spells",
    "close": "shut a door next to you",
    "open": "open a door next to you",
    "dip": "dip one object into another",
    "drop": "put down an item",
    "droptype": "put down all items of certain types (the game then asks which)",
    "eat": "eat an item (tip: do so when you are hungry)",
    "esc": "leave a menu or message",
    "engrave": "write on the floor (tip: Elbereth)",
    "enhance": "see or advance your weapon skills",
    "fire": "shoot what is in your quiver",
    "fight": "attack a monster, or a place where you only suspect one",
    "force": "force open a lock",
    "inventory": "look at what you carry",
    "invoke": "call on the special power of an object",
    "jump": "jump to another place",
    "kick": "kick an enemy, or a door or chest that is locked",
    "look": "see what lies under you",
    "loot": "open a box that lies on the floor",
    "monster": "use the special ability of the monster you are polymorphed into",
    "offer": "sacrifice to the gods (tip: on an altar of your alignment)",
    "overview": "see a summary of the dungeon so far",
    "pay": "pay what you owe in a shop",
    "pickup": "take what lies where you stand",
    "pray": "ask the gods for help",
    "puton": "put on a ring, amulet or other accessory",
    "quaff": "drink something",
    "quiver": "choose what to shoot with fire",
    "read": "read a scroll or a spellbook",
    "remove": "take off an accessory",
    "rub": "rub a lamp or stone",
    "search": "look for hidden doors and passages around you",
    "swap": "exchange your wielded weapon and the alternate one",
    "takeoff": "take off one piece of armor",
    "takeoffall": "take off all your armor",
    "teleport": "teleport to another level, if you are able to",
    "throw": "throw something, such as a dagger or a dart",
    "travel": "travel to a place on the map (tip: then name it: > or < for stairs, { for a fountain, _ for an altar)",
    "twoweapon": "begin or stop fighting with two weapons",
    "untrap": "disarm something",
    "wear": "put on a piece of armor",
    "wield": "take a weapon in hand",
    "wipe": "clean your face",
    "zap": "zap a wand",
    **{"minus": "-", "space": " ", "apos": "'"},
    **{digit: digit for digit in "0123456789"},
}
#: Where less is said of an action in MiniHack.
_MINIHACK = _NLE | {
    "down": "climb the stairs down",
    "more": "read on in a message",
    "eat": "eat an item",
    "pickup": "take what lies where you stand, if anything does",
}

_TIPS = (
    'Where a message asks you to complete it, as in "What do you want to eat? [e or ?*]", answer with the one '
    'character of the item you mean. "What do you want to wield? [- abc or ?*]", for instance, can be answered with '
    '"a", "b" or "c".',
    'Where a message asks for a direction ("In what direction?"), answer with a direction.',
    'After a message that ends with --More--, answer "more" to see the rest of it.',
    "Explore, and look for the stairs down to the next level.",
    "Before you decide, read the latest message with care to know the state of the game.",
    'Walking on in one direction takes you to a wall in the end, with a message such as "It\'s solid stone" or "It\'s '
    'a wall". Go another way then, to see more of the level.',
    "Use the description in words together with the map or the picture to choose your action and where to go.",
    "To attack a monster, move into it.",
)


def nle_instruction() -> str:
    """Of the whole game."""
    tips = "\n".join(f"- {tip}" for tip in _TIPS)
    return (
        "You are an agent that plays NetHack. These are the actions that the game understands, each with what it does:"
        f"\n\n{_listed(_NLE)}.\n\n"
        f"Tips:\n{tips}\n\n"
        "You will now be shown the actions and observations of the game so far.\n"
        "Get as far in the game as you can.\n\nPLAY!"
    )


def minihack_instruction(task: str) -> str:
    """Of one of the tasks in `MINIHACK`, with the actions that it takes."""
    return (
        "You are an agent that plays MiniHack. These are the actions that the game understands, each with what it does:"
        f"\n\n{_listed({word: _MINIHACK[word] for word in MINIHACK[task]})}.\n\n"
        "You will now be shown the actions and observations of the game so far.\n\n"
        "Tip: it is of no use to repeat an action that changes nothing.\n\n"
        f"{_goal(task)}\n\nPLAY!"
    )


def _goal(task: str) -> str:
    name = task.lower()
    if "corridor" in name:
        return "Explore the level and reach the stairs down: that is your goal."
    if "quest" in name:
        return (
            "Your goal is to reach the stairs down in the end. On the way you explore the level, fight monsters and "
            "find your way through rooms and mazes."
        )
    if "boxoban" in name:
        return (
            "The game is Boxoban, in which boxes are pushed about as in Sokoban. Your goal is to push every boulder "
            "onto a fountain. Walk into a boulder to push it; nothing may be in its way on the other side."
        )
    return "Your goal is to get as far in the game as you can."


def _listed(actions: Mapping[str, str]) -> str:
    return ",\n".join(f"{action}: {description}" for action, description in actions.items())
