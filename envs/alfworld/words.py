"""What the model reads: prompts, and the sentence for supervised warm starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from envs.alfworld.expert import APPLIANCES, misplaced
from envs.alfworld.game import Goal
from envs.alfworld.knowledge import Knowledge, Receptacle, type_of
from envs.base import answer_format

#: What the game accepts and what leads nowhere: it tells again what the prompt tells anyway.
_TELLING = ("look", "inventory", "examine")
#: How many places a description names before it counts the rest.
_LISTED = 3


def worth_listing(commands: Iterable[str], *, brief: bool) -> tuple[str, ...]:
    """The commands that a prompt lists: all but "help", and in brief only those that move or change something."""
    left_out = ("help", *_TELLING) if brief else ("help",)
    return tuple(command for command in commands if command.partition(" ")[0] not in left_out)


def task(goal: Goal) -> str:
    """The task in as few words as can be, such as "put hot mug in cabinet"."""
    if goal.toggle:
        return f"hold {goal.object} and use {goal.toggle}"
    state = f"{APPLIANCES[goal.treatment][1]} " if goal.treatment else ""
    return f"put {'two ' if goal.count == 2 else ''}{state}{goal.object} in {goal.parent}"


def scene(introduction: str) -> str:
    """What an introduction tells of the room, without its greeting before and the task after that."""
    paragraphs = introduction.split("\n\n")
    return paragraphs[1] if len(paragraphs) == 3 else introduction


def full_prompt(told: str, feedback: str, known: Knowledge, actions: Sequence[str]) -> str:
    """The prompt for a pretrained model.

    Args:
        told: the task, as the game tells it.
        feedback: what the game answered to the last command.
        known: what has been revealed.
        actions: what to list.
    """
    return (
        "You act in a house that is described in text.\n"
        f"Your task is to: {plain(told)}.\n"
        "The images are the latest drawings of the room, oldest first: what has been found so far, where you stand "
        "and what you hold.\n"
        f"{full_state(feedback, known)}\n"
        f"Possible actions: {', '.join(actions)}.\n"
        "Say briefly what you know and what follows from it, then choose one action. "
        f"Answer with one JSON object and nothing else: {answer_format()}"
    )


def full_state(feedback: str, known: Knowledge) -> str:
    """What the game answered last, where one stands and what one holds."""
    return f"What happened last: {plain(feedback)}\nYou {_position(known)} and hold {known.holding or 'nothing'}."


def terse_prompt(goal: Goal, known: Knowledge, actions: Sequence[str]) -> str:
    """The prompt for a small model: the goal, what is here, what is held, where things of the goal are, the actions."""
    return ". ".join(filter(None, (task(goal), terse_state(goal, known), f"actions: {', '.join(actions)}.")))


def terse_state(goal: Goal, known: Knowledge) -> str:
    """What is here, what is held, where things of the goal are."""
    return ". ".join(filter(None, (_here(known), _held(goal, known), _found(goal, known))))


def describe(goal: Goal, known: Knowledge) -> str:
    """What the next decision depends on, such as "need mug 1 in drawer 1, not here. holding nothing. at shelf 1"."""
    return f"need {_need(goal, known)}. {_held(goal, known)}. {_place(known)}"


def describe_briefly(goal: Goal, known: Knowledge) -> str:
    """The same for a small model, of which every word costs time, such as "mug 1 in drawer 1 here"."""
    held = f"{_held(goal, known)}. " if known.holding is not None else ""
    here = known.receptacles[known.at] if known.at else None
    if names := _wanted_places(goal, known):
        if here is None or here.name not in names:
            return f"{held}{names[0]} not here"
        return f"{held}{here.name} here{' closed' if here.closed else ''}"
    kind = _kind_to_find(goal, known)
    if seen := misplaced(goal, known, kind):
        thing, place = next(((t, p) for t, p in seen.items() if p == known.at), next(iter(seen.items())))
        lid = " closed" if here is not None and place == here.name and here.closed else ""
        return f"{held}{thing} in {place} {'here' if place == known.at else 'not here'}{lid}"
    if here is not None and here.contents is None:
        return f"{held}{kind} not found. here closed"
    unsearched = known.unsearched()
    return f"{held}{kind} not found. {unsearched[0].name if unsearched else 'nothing'} not searched"


def _wanted_places(goal: Goal, known: Knowledge) -> list[str]:
    """Where what is held has to go next; nowhere if it is not the right thing, or is to be looked at."""
    held = known.holding
    if held is None or type_of(held) != goal.object or goal.toggle:
        return []
    untreated = goal.treatment and APPLIANCES[goal.treatment][1] not in known.states.get(held, ())
    kind = APPLIANCES[goal.treatment][0] if untreated else goal.parent
    return [place.name for place in known.of_type(kind)]


def _need(goal: Goal, known: Knowledge) -> str:
    """What is needed next, and whether it is here."""
    if names := _wanted_places(goal, known):
        kind = type_of(names[0])
        return f"{names[0] if len(names) == 1 else kind}, {'here' if known.at in names else 'not here'}"
    kind = _kind_to_find(goal, known)
    seen = misplaced(goal, known, kind)
    if seen:
        thing, place = next(((t, p) for t, p in seen.items() if p == known.at), next(iter(seen.items())))
        return f"{thing} in {place}, {'here' if place == known.at else 'not here'}"
    places = [place.name for place in known.unsearched()]
    more = f" and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
    return f"{kind}, not found. not searched: {', '.join(places[:_LISTED]) or 'nothing'}{more}"


def _found(goal: Goal, known: Knowledge) -> str:
    """Where things that are still needed lie; before any is seen, where nobody has looked."""
    kind = _kind_to_find(goal, known)
    seen = misplaced(goal, known, kind)
    if seen:
        return ", ".join(f"{thing} in {place}" for thing, place in seen.items())
    if known.holding is not None and type_of(known.holding) == kind:
        return ""
    return f"no {kind} found. not searched: {', '.join(place.name for place in known.unsearched()) or 'nothing'}"


def _kind_to_find(goal: Goal, known: Knowledge) -> str:
    """The lamp once the object is held, and else the object."""
    held = known.holding
    return goal.toggle if goal.toggle and held is not None and type_of(held) == goal.object else goal.object


def plain(text: str) -> str:
    """One line of ASCII; annotated tasks of official games may hold other characters."""
    return " ".join(text.encode("ascii", "replace").decode().split())


def _position(known: Knowledge) -> str:
    return "stand in the middle of the room" if known.at is None else f"stand at {known.at}"


def _place(known: Knowledge) -> str:
    """Where the agent is, and whether that is open or closed."""
    if known.at is None:
        return "in the middle"
    receptacle = known.receptacles[known.at]
    return f"at {known.at}{_lid(receptacle)}"


def _lid(receptacle: Receptacle) -> str:
    return "" if not receptacle.openable else " open" if receptacle.open else " closed"


def _here(known: Knowledge) -> str:
    contents = known.receptacles[known.at].contents if known.at else None
    if contents is None or known.receptacles[known.at or ""].closed:
        return _place(known)
    return f"{_place(known)}: {', '.join(contents) or 'nothing'}"


def _held(goal: Goal, known: Knowledge) -> str:
    if known.holding is None:
        return "holding nothing"
    wrong = "" if type_of(known.holding) == goal.object else ", not needed"
    return f"holding {' '.join([*known.states.get(known.holding, ()), known.holding])}{wrong}"
