"""The words of the thirty invented websites of `sites`; the kinds take turns."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """What a site says of itself.

    Attributes:
        kind: of website, a key of `sites.KINDS`.
        name: of the website.
        heading: the largest text.
        text: a paragraph.
        description: the meta description, which is not to be seen on the page.
        cards: titles of three cards.
    """

    kind: str
    name: str
    heading: str
    text: str
    description: str
    cards: tuple[str, str, str]


WORDS = (
    Words(
        "shop",
        "Lumen Oak",
        "Lamps made to last",
        "Every lamp is turned from one piece of oak, wired by hand and repaired for free, for as long as you keep it.",
        "Lumen Oak sells wooden lamps that are made by hand and repaired for free.",
        ("Desk lamp", "Floor lamp", "Wall lamp"),
    ),
    Words(
        "news",
        "Harbor Post",
        "Ferry line returns after ten years",
        "The first boat left at dawn with two hundred people on board, many of whom had waited since the old pier"
        " was closed.",
        "Harbor Post reports on the coast, its towns and its people every day.",
        ("Old pier to be rebuilt", "Fishermen ask for help", "Storm takes two roofs"),
    ),
    Words(
        "recipes",
        "Green Pot",
        "Simple food for busy days",
        "All of our recipes need one pot, no more than eight ingredients, and things that every small shop sells.",
        "Green Pot collects simple recipes that need only one pot.",
        ("Lentil stew", "Lemon rice", "Apple crumble"),
    ),
    Words(
        "manual",
        "Quill",
        "A small database for small programs",
        "Quill keeps tables in a single file, answers in microseconds and needs neither a server nor an administrator.",
        "Documentation of Quill, a database that lives in a single file.",
        ("Writing queries", "Making backups", "Using indexes"),
    ),
    Words(
        "registration",
        "Night School",
        "Learn something new this winter",
        "Forty evening courses begin in January, from pottery to statistics, and none of them asks for a certificate.",
        "Night School offers evening courses for adults, from pottery to statistics.",
        ("Pottery", "Spanish one", "Statistics"),
    ),
    Words(
        "travel",
        "Alta Valley",
        "Three lakes and a slow train",
        "The valley is best seen from the narrow railway that climbs past vineyards, two castles and a hundred "
        "bridges.",
        "Plan a stay in Alta Valley, the land of three lakes and a narrow railway.",
        ("Castle of Brenn", "Mill gorge", "Salt mine"),
    ),
    Words(
        "library",
        "Elm Library",
        "Read, listen and meet",
        "Behind the old town hall there are now ninety thousand books, a room for music and a garden to read in.",
        "Elm Library lends books, music and tools to everybody in town.",
        ("Birds of the river", "The long winter", "Knots and sails"),
    ),
    Words(
        "museum",
        "Tram Museum",
        "A hundred years on rails",
        "Twenty trams from four countries stand in the depot, and on Sundays one of them takes visitors for a ride.",
        "The Tram Museum shows trams of a hundred years and runs one of them.",
        ("Horses and rails", "The blue car", "Drivers at work"),
    ),
    Words(
        "club",
        "FC Marble",
        "A club for the whole quarter",
        "Children play on Mondays, veterans on Fridays, and on Saturdays everybody comes to watch the first team.",
        "FC Marble is the football club of the marble quarter, with teams of all ages.",
        ("First team", "Juniors", "Veterans"),
    ),
    Words(
        "clinic",
        "West Clinic",
        "Care close to home",
        "Our doctors see you on the day you call, speak seven languages and take their time to explain.",
        "West Clinic treats patients in the west of the town on the day they call.",
        ("Heart", "Eyes", "Children"),
    ),
    Words(
        "shop",
        "Paper Wren",
        "Notebooks for every desk",
        "The paper comes from a mill upriver, the thread is linen, and each notebook lies flat from the first page on.",
        "Paper Wren makes sewn notebooks that lie flat, and sells them by post.",
        ("Pocket book", "Sketch book", "Music book"),
    ),
    Words(
        "news",
        "Hill Gazette",
        "School garden wins national prize",
        "Pupils planted forty kinds of vegetables on a former parking place and now cook lunch for the whole school.",
        "Hill Gazette brings news from the hills, written by the people who live there.",
        ("New bus to the summit", "Snow closes the pass", "Choir looks for voices"),
    ),
    Words(
        "recipes",
        "Oven Hour",
        "Bread with time",
        "Flour, water and salt are enough when the dough may rest overnight, and the oven does the rest by itself.",
        "Oven Hour explains how to bake bread that rests overnight.",
        ("Rye loaf", "Sesame rolls", "Olive bread"),
    ),
    Words(
        "manual",
        "Kestrel",
        "Plots from a single line",
        "Kestrel draws scatter plots, maps and histograms from plain tables and writes them as pictures for print.",
        "Documentation of Kestrel, a library that draws plots from plain tables.",
        ("Choosing colors", "Drawing maps", "Large tables"),
    ),
    Words(
        "registration",
        "River Run",
        "Run along the river in May",
        "The course is flat, closed to cars and has water at every third kilometre, and the last runner gets a cake.",
        "Register for River Run, the flat race along the river in May.",
        ("Half marathon", "Family mile", "Relay race"),
    ),
    Words(
        "travel",
        "Port Sole",
        "The island without cars",
        "From the ferry it is an hour on foot to the lighthouse, past quiet beaches and a market that opens at "
        "sunrise.",
        "Visit Port Sole, the island where people walk and no cars are allowed.",
        ("Lighthouse", "Pirate cave", "North beach"),
    ),
    Words(
        "library",
        "Cave Archive",
        "Maps from six centuries",
        "The archive holds eleven thousand maps and charts, all of which may be seen on two days of the week.",
        "Cave Archive keeps and shows maps of six centuries.",
        ("Atlas of winds", "City of canals", "Roads of salt"),
    ),
    Words(
        "museum",
        "House of Wool",
        "From the sheep to the coat",
        "Old machines spin and weave before your eyes, and at the end you may try the loom yourself.",
        "House of Wool shows how wool is spun and woven, on machines that still run.",
        ("Looms in motion", "Red and indigo", "Coats of sailors"),
    ),
    Words(
        "club",
        "Rowing Eight",
        "On the water before breakfast",
        "We row every morning from April to October, lend boats to beginners and never leave anybody on the bank.",
        "Rowing Eight teaches beginners to row and races on three rivers.",
        ("Women eight", "Men four", "Mixed double"),
    ),
    Words(
        "clinic",
        "Pet Corner",
        "Doctors for small animals",
        "Cats, dogs, rabbits and birds are seen without an appointment, and we come to the house of very old ones.",
        "Pet Corner treats small animals, with or without an appointment.",
        ("Surgery", "Teeth", "X-ray"),
    ),
    Words(
        "shop",
        "Alder Boots",
        "Boots for wet streets",
        "Three layers of leather and a rubber sole keep feet dry for years, and worn soles are replaced in a day.",
        "Alder Boots sells leather boots for rain and replaces their soles.",
        ("Low boot", "High boot", "Child boot"),
    ),
    Words(
        "news",
        "Daily Orbit",
        "Probe lands on a distant moon",
        "After nine years of flight the small craft sent its first picture, a plain of ice under a black sky.",
        "Daily Orbit covers rockets, planets and the people who fly.",
        ("Comet seen at dusk", "New suit for Mars", "Station gets a window"),
    ),
    Words(
        "recipes",
        "Spice Lane",
        "Cook with what grows nearby",
        "We grind our own spices, write down every gram and say honestly when a dish takes the whole afternoon.",
        "Spice Lane has recipes with fresh spices, weighed to the gram.",
        ("Pepper soup", "Plum chutney", "Ginger tea"),
    ),
    Words(
        "manual",
        "Ferrule",
        "Move files without fear",
        "Ferrule copies folders between machines, checks every byte twice and goes on where it was interrupted.",
        "Documentation of Ferrule, which copies folders between machines and checks them.",
        ("First transfer", "Rules and filters", "Slow networks"),
    ),
    Words(
        "registration",
        "Code Camp",
        "A week of building robots",
        "Twelve girls and boys build a robot in five days, from the first screw to the race on Friday afternoon.",
        "Register for Code Camp, a week in which children build a robot.",
        ("Wheels", "Sensors", "Final race"),
    ),
    Words(
        "travel",
        "Desert Line",
        "Nights under a clear sky",
        "Camels carry the tents, guides tell the names of stars, and there is no telephone for three days.",
        "Desert Line leads small groups through the desert, with camels and tents.",
        ("Red dunes", "Oasis of palms", "Stone forest"),
    ),
    Words(
        "library",
        "Sound Shelf",
        "Borrow a voice",
        "Audio books for long roads and short nights, read by actors and lent as long as nobody else asks for them.",
        "Sound Shelf lends audio books that are read by actors.",
        ("Whale stories", "Night train", "The glass key"),
    ),
    Words(
        "museum",
        "Star Dome",
        "Sit back and look up",
        "The dome shows the sky of any night since the pyramids, with every planet where it stood.",
        "Star Dome shows the night sky of every century in a round theatre.",
        ("Rings of ice", "Birth of a sun", "Sky of sailors"),
    ),
    Words(
        "club",
        "Chess Cellar",
        "Play on forty boards",
        "Beginners learn on Tuesdays, masters play blind on Thursdays, and tea is free for whoever loses.",
        "Chess Cellar is open to players of all strengths on four evenings a week.",
        ("Knights", "Bishops", "Rooks"),
    ),
    Words(
        "clinic",
        "Sleep House",
        "Find your way back to sleep",
        "You spend one night with us, we measure breath and pulse, and in the morning we talk about what helps.",
        "Sleep House examines people who sleep badly, in one quiet night.",
        ("Breathing", "Dreams", "Night shift"),
    ),
)
