"""The words of invented websites that the benchmark never shows: put together from lists, endlessly many."""

from __future__ import annotations

import random

from benchmarks.suites.visual_web_bench.site_words import Words
from benchmarks.suites.visual_web_bench.sites import KINDS

# fmt: off
_FIRST = (
    "Amber", "Birch", "Blue", "Bright", "Canal", "Cedar", "Clear", "Copper", "East", "Fern", "Field", "Garden",
    "Golden", "Grand", "High", "Iron", "Ivy", "Lake", "Maple", "Meadow", "North", "Open", "Park", "Pine", "Plain",
    "Quiet", "Silver", "South", "Stone", "Sunny", "Upper", "White", "Wild", "Willow", "Winter", "Young",
)
_LAST = (
    "Bakery", "Bridge", "Center", "Circle", "Corner", "Court", "Door", "Farm", "Gate", "Group", "Hall", "Home",
    "House", "Journal", "Lane", "Market", "Mill", "Place", "Point", "Room", "School", "Shop", "Square", "Station",
    "Street", "Team", "Times", "Tower", "Valley", "Wharf", "Works", "Yard",
)
_ADJECTIVE = (
    "big", "bright", "calm", "clean", "cold", "daily", "early", "easy", "fair", "fast", "fine", "free", "fresh",
    "good", "great", "green", "happy", "honest", "kind", "large", "late", "light", "local", "long", "modern", "new",
    "old", "open", "plain", "quick", "quiet", "rare", "round", "safe", "short", "simple", "slow", "small", "soft",
    "strong", "warm", "whole", "wide", "young",
)
_THINGS = (
    "apples", "bags", "bikes", "birds", "boats", "books", "bridges", "cakes", "chairs", "clocks", "coats", "dances",
    "doors", "farms", "films", "fish", "flowers", "forests", "games", "gardens", "guides", "hats", "hills",
    "horses", "houses", "ideas", "islands", "jobs", "keys", "letters", "maps", "meals", "people", "pictures",
    "places", "plants", "plays", "rivers", "roads", "rooms", "schools", "shoes", "songs", "stories", "tools",
    "towns", "toys", "trains", "trees", "walks", "windows",
)
_WHOM = (
    "children", "everybody", "families", "friends", "guests", "neighbors", "students", "teachers", "the city",
    "the road", "the summer", "the village", "travelers", "visitors", "workers", "your home", "your street",
)
_VERB = (
    "builds", "checks", "collects", "explains", "finds", "gives", "grows", "keeps", "lends", "loves", "makes",
    "opens", "plans", "reads", "repairs", "sells", "sends", "shares", "shows", "teaches", "tests", "tries", "wants",
    "writes",
)
_WHEN = (
    "all year", "at night", "at noon", "before lunch", "by hand", "every day", "every week", "for free",
    "in autumn", "in spring", "in two days", "on foot", "on Sundays", "once a month", "since last year",
    "with care",
)
# fmt: on


def draw_words(draw: random.Random) -> Words:
    """The words of one website."""
    first, last = draw.choice(_FIRST), draw.choice(_LAST)
    things, others = draw.sample(_THINGS, 2)
    adjectives = draw.sample(_ADJECTIVE, 3)
    whom, verb, when = draw.choice(_WHOM), draw.choice(_VERB), draw.choice(_WHEN)
    heading = draw.choice(
        (
            f"{adjectives[0]} {things} for {whom}",
            f"{things} and {others} {when}",
            f"the {adjectives[0]} {adjectives[1]} {things}",
            f"{things} {when} and {others} {draw.choice(_WHEN)}",
            f"a {adjectives[0]} place for {things}",
        )
    )
    text = (
        f"{whom} {verb} {adjectives[1]} {things} {when}, and the {adjectives[2]} {others} of {draw.choice(_WHOM)} are "
        f"here {draw.choice(_WHEN)} too."
    )
    pairs = zip(draw.sample(_ADJECTIVE, 3), draw.sample(_THINGS, 3), strict=True)
    cards = [f"{adjective} {thing}" for adjective, thing in pairs]
    return Words(
        kind=draw.choice(list(KINDS)),
        name=f"{first} {last}",
        heading=_capital(heading),
        text=_capital(text),
        description=f"{first} {last} {verb} {adjectives[0]} {things} for {whom} {when}.",
        cards=(_capital(cards[0]), _capital(cards[1]), _capital(cards[2])),
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
