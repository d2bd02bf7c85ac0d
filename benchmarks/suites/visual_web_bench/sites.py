"""Thirty invented websites: ten kinds with the same links, three sites a kind with their own words and numbers."""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.suites.visual_web_bench.site_words import WORDS, Words

_SEED = 20240409


@dataclass(frozen=True)
class Link:
    """What can be clicked.

    Attributes:
        label: as it stands on the page.
        leads_to: describes the page behind it.
        purpose: what somebody wants who clicks it.
        kind: "link", "button" or "card".
        detail: a second line, of cards.
    """

    label: str
    leads_to: str
    purpose: str
    kind: str = "link"
    detail: str = ""


@dataclass(frozen=True)
class Site:
    """The home page of a website.

    Attributes:
        kind: of website.
        name: of the website.
        heading: the largest text.
        text: a paragraph.
        description: what its HTML would have as meta description.
        fact: a line with a number.
        links: five links, a button and three cards.
        questions: each with its accepted answers, all of which can be read off the page.
        dark: color of the header.
        accent: color of the button.
        side: whether the links are in a column at the left and not in the header.
    """

    kind: str
    name: str
    heading: str
    text: str
    description: str
    fact: str
    links: tuple[Link, ...]
    questions: tuple[tuple[str, tuple[str, ...]], ...]
    dark: str
    accent: str
    side: bool


@dataclass(frozen=True)
class _Kind:
    """Texts have {n} where a number goes and {title} where the title of a card goes."""

    links: tuple[tuple[str, str, str], ...]
    button: tuple[str, str, str]
    fact: str
    fact_question: str
    fact_answers: tuple[str, ...]
    detail: str
    detail_question: str
    detail_answers: tuple[str, ...]
    leads_to: str
    purpose: str


# fmt: off
KINDS = {
    "shop": _Kind(
        (("New in", "The products that arrived this week", "see what has just arrived"),
         ("Sale", "Everything with a lower price until Sunday", "find products at a lower price"),
         ("Stores", "Addresses and opening hours of all stores", "find out where a store is"),
         ("Returns", "How to send a product back and get the money", "send back something that does not fit"),
         ("Basket", "The chosen products and the way to pay", "pay for the chosen products")),
        ("Shop all", "The whole range, sorted by popularity", "browse the whole range"),
        "Free delivery from ${n}", "From what amount is delivery free?", ("${n}", "{n} dollars"),
        "${n}", 'What does the product "{title}" cost?', ("${n}", "{n} dollars"),
        "{title} in pictures, sizes and reviews", "look at the product {title}"),
    "news": _Kind(
        (("World", "News from every continent", "read what happens abroad"),
         ("Business", "Markets, companies and money", "follow the stock market"),
         ("Science", "Discoveries and the people behind them", "read about a discovery"),
         ("Sport", "Results, tables and match reports", "look up last night's results"),
         ("Weather", "The forecast for the next ten days", "learn whether it will rain")),
        ("Subscribe", "Prices and terms of a subscription", "become a subscriber"),
        "Updated {n} minutes ago", "How many minutes ago was the page updated?", ("{n}", "{n} minutes"),
        "{n} min read", 'How many minutes does it take to read "{title}"?', ("{n}", "{n} min"),
        "{title}, the full article", "read the article {title}"),
    "recipes": _Kind(
        (("Soups", "Soups for cold evenings", "find a soup to cook"),
         ("Baking", "Bread, cakes and biscuits", "find a cake to bake"),
         ("Vegan", "Dishes without anything from animals", "cook without milk, eggs and meat"),
         ("Tools", "Pans, knives and scales that we tested", "choose a good knife"),
         ("Saved", "The recipes that you have kept", "open the recipes kept earlier")),
        ("Surprise me", "A recipe picked at random", "be given any recipe"),
        "Over {n} tested recipes", "Over how many tested recipes are there?", ("{n}", "{n} recipes"),
        "{n} minutes", 'How long does "{title}" take?', ("{n} minutes", "{n}"),
        "{title}, step by step with a shopping list", "cook {title}"),
    "manual": _Kind(
        (("Install", "How to install it on every system", "set the program up on a new computer"),
         ("Tutorial", "A first project from start to end", "learn it by a small project"),
         ("API", "Every function with its arguments", "look up the arguments of a function"),
         ("Changes", "What is new in each version", "see what the last version changed"),
         ("Forum", "Questions and answers of users", "ask other users a question")),
        ("Get started", "The shortest way to a running example", "run a first example"),
        "Version {n}.0 is out", "Which version is out?", ("{n}.0", "Version {n}.0"),
        "{n} pages", 'How many pages does the guide "{title}" have?', ("{n}", "{n} pages"),
        "{title}, a guide with examples", "read the guide {title}"),
    "registration": _Kind(
        (("Dates", "All days on which courses begin", "see when courses begin"),
         ("Fees", "What each course costs, and who pays less", "find out what it costs"),
         ("Teachers", "Who teaches, and what they have done", "learn about the people who teach"),
         ("Rooms", "A map with all class rooms", "find the way to a class room"),
         ("Help", "How to reach the office", "ask the office something")),
        ("Sign up", "A form for your name, address and course", "register for a course"),
        "{n} places left", "How many places are left?", ("{n}", "{n} places"),
        "Room {n}", 'In which room is the course "{title}"?', ("Room {n}", "{n}"),
        "{title}, its plan and its teacher", "learn more about the course {title}"),
    "travel": _Kind(
        (("Trains", "Connections and tickets by rail", "buy a ticket for the train"),
         ("Hotels", "Rooms with prices for your dates", "book a room for the night"),
         ("Maps", "Walks and streets to print", "print a map of the town"),
         ("Events", "Concerts, markets and fairs", "find out what is on tonight"),
         ("Deals", "Journeys that cost less this month", "travel for less money")),
        ("Plan a trip", "A calendar to put a journey together", "put a journey together"),
        "Rated by {n} guests", "By how many guests was it rated?", ("{n}", "{n} guests"),
        "{n} km away", 'How far away is "{title}"?', ("{n} km", "{n} km away"),
        "{title}, how to get there and what to see", "visit {title}"),
    "library": _Kind(
        (("Catalog", "Search among all books and journals", "search for a book"),
         ("Loans", "What you have borrowed, and until when", "keep a borrowed book for longer"),
         ("Hours", "When each reading room is open", "learn when the reading room closes"),
         ("Kids", "Picture books and afternoons for children", "find a book for a child"),
         ("Donate", "How to give books or money", "give old books away")),
        ("Get a card", "An application for a library card", "apply for a library card"),
        "Open until {n} o'clock", "Until when is it open?", ("{n} o'clock", "{n}"),
        "Shelf {n}", 'On which shelf is "{title}"?', ("Shelf {n}", "{n}"),
        "{title}, its contents and free copies", "borrow {title}"),
    "museum": _Kind(
        (("Tickets", "Prices of tickets and days without a fee", "buy a ticket for tomorrow"),
         ("Tours", "Guided walks through the rooms", "be shown around by a guide"),
         ("Cafe", "The menu of the cafe in the court", "see what there is to eat"),
         ("Press", "Pictures and texts for journalists", "get pictures for a newspaper"),
         ("Jobs", "Open positions in the house", "work in the house")),
        ("Visit us", "The way here by bus, train and bicycle", "find the way to the house"),
        "Adults pay ${n}", "How much do adults pay?", ("${n}", "{n} dollars"),
        "Hall {n}", 'In which hall is "{title}"?', ("Hall {n}", "{n}"),
        "{title}, the exhibition and its catalogue", "see the exhibition {title}"),
    "club": _Kind(
        (("Teams", "All teams with their players", "see who plays in a team"),
         ("Games", "The season's calendar with results", "learn when the next game is"),
         ("Training", "Days, hours and places of training", "join a training session"),
         ("Fan shop", "Scarves, shirts and cups", "buy a scarf"),
         ("Photos", "Pictures of the last games", "look at pictures of a game")),
        ("Join us", "A form for new members", "become a member"),
        "{n} members", "How many members are there?", ("{n}", "{n} members"),
        "{n} points", 'How many points does "{title}" have?', ("{n}", "{n} points"),
        "{title}, its coach and its results", "follow {title}"),
    "clinic": _Kind(
        (("Doctors", "All doctors with their fields", "find a doctor for the eyes"),
         ("Advice", "What to do about a cold or a cut", "treat a small cut at home"),
         ("Results", "Findings of your last examination", "see the findings of an examination"),
         ("Parking", "Where to leave the car, and what it costs", "know where to leave the car"),
         ("Contact", "Telephone numbers day and night", "call somebody at night")),
        ("Book a visit", "A calendar with free appointments", "make an appointment"),
        "Waiting time {n} minutes", "How long is the waiting time?", ("{n} minutes", "{n}"),
        "Floor {n}", 'On which floor is the unit "{title}"?', ("Floor {n}", "{n}"),
        "{title}, its staff and its treatments", "learn about the unit {title}"),
}
# fmt: on

_DARK = ("#1d3557", "#22403a", "#4a2545", "#3b3a3a", "#14425c", "#5a2a27")
_ACCENT = ("#2a9d8f", "#b4531f", "#3a6ea5", "#7a4fa3", "#5b7f1c")


def sites() -> list[Site]:
    """All sites in their fixed order, in which the kinds take turns."""
    return [make_site(words, random.Random(_SEED + number)) for number, words in enumerate(WORDS)]


def make_site(words: Words, draw: random.Random) -> Site:
    """A site with these words; its numbers and its looks are drawn."""
    common = KINDS[words.kind]
    fact, *details = draw.sample(range(6, 60), 4)  # all different, so that no number answers two questions
    cards = [
        Link(
            title,
            common.leads_to.format(title=title),
            common.purpose.format(title=title),
            "card",
            common.detail.format(n=n),
        )
        for title, n in zip(words.cards, details, strict=True)
    ]
    questions = [(common.fact_question, tuple(answer.format(n=fact) for answer in common.fact_answers))] + [
        (common.detail_question.format(title=title), tuple(answer.format(n=n) for answer in common.detail_answers))
        for title, n in zip(words.cards, details, strict=True)
    ]
    return Site(
        kind=words.kind,
        name=words.name,
        heading=words.heading,
        text=words.text,
        description=words.description,
        fact=common.fact.format(n=fact),
        links=(*(Link(*link) for link in common.links), Link(*common.button, "button"), *cards),
        questions=tuple(questions),
        dark=draw.choice(_DARK),
        accent=draw.choice(_ACCENT),
        side=draw.random() < 0.5,
    )
