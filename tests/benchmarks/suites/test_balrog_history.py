from __future__ import annotations

import numpy as np
import pytest

from benchmarks.suites.balrog.agents import AGENTS, ChainOfThought, Naive, make_agent
from benchmarks.suites.balrog.environment import Environment, Observation
from benchmarks.suites.balrog.history import History
from vldac.models.conversation import Image, Message


def picture(number: int) -> Image:
    return np.full((2, 2, 3), number, np.uint8)


def told(messages: tuple[Message, ...]) -> list[tuple[str, str, list[int]]]:
    return [(message.role, message.text, [int(image[0, 0, 0]) for image in message.images]) for message in messages]


def test_the_newest_observation_alone_shows_its_short_term_context_and_the_question() -> None:
    history = History("rules", texts=16, images=1)
    history.see(Observation("first", "inventory 1", picture(1)))
    history.act("go")
    history.see(Observation("second", "inventory 2", picture(2)))
    assert told(history.messages("what now?")) == [
        ("user", "rules", []),
        ("user", "Observation:\nfirst", []),
        ("assistant", "go", []),
        ("user", "Current Observation:\ninventory 2\nsecond\nImage observation provided.\n\nwhat now?", [2]),
    ]


def test_a_picture_follows_the_text_of_its_message() -> None:
    history = History("rules")
    history.see(Observation("text", image=picture(3)))
    *_, last = history.messages()
    assert isinstance(last.content[0], str)
    assert np.array_equal(last.content[1], picture(3))


def test_sixteen_observations_are_kept_and_the_window_may_begin_with_an_action() -> None:
    history = History("rules", texts=16, images=0)
    for number in range(40):
        history.see(Observation(f"o{number}"))
        history.act(f"a{number}")
    history.see(Observation("o40"))
    _, *rest = told(history.messages())
    assert [text for _, text, _ in rest if "bservation" in text] == [
        *(f"Observation:\no{number}" for number in range(25, 40)),
        "Current Observation:\no40",
    ]
    assert rest[0] == ("assistant", "a24", [])
    assert len(rest) == 32


def test_older_texts_than_the_window_leave_an_empty_heading() -> None:
    history = History("rules", texts=2, images=0)
    for number in range(4):
        history.see(Observation(f"o{number}"))  # no action between them, as after empty answers
        history.act("")
    assert [text for _, text, _ in told(history.messages())] == [
        "rules", "Observation:", "Observation:", "Observation:\no2", "Current Observation:\no3"
    ]  # fmt: skip


def test_pictures_are_counted_where_there_are_pictures() -> None:
    history = History("rules", texts=4, images=2)
    for image in (picture(1), picture(2), None, picture(4)):
        history.see(Observation("o", image=image))
    assert [images for _, _, images in told(history.messages())] == [[], [], [2], [], [4]]


def test_only_the_last_reasoning_is_shown_and_what_was_dropped_does_not_come_back() -> None:
    history = History("rules", images=0, reasonings=1)
    for number in range(2):
        history.see(Observation("o"))
        history.act(f"a{number}", f"because {number}")
        history.messages()
    history.see(Observation("o"))
    said = [text for role, text, _ in told(history.messages()) if role == "assistant"]
    assert said == ["a0", "Previous plan:\nbecause 1"]
    history.act("a2")  # without a reasoning, the one before it is again the newest
    history.see(Observation("o"))
    said = [text for role, text, _ in told(history.messages()) if role == "assistant"]
    assert said == ["a0", "Previous plan:\nbecause 1", "a2"]


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("go forward", "go forward"),
        (" go forward\n", "go forward"),
        ("go forward.", "go forward"),
        ("**go forward**", "go forward"),
        ("1. go forward", " go forward"),  # stripped before the letters are filtered
        ('"go forward" ', "go forward"),
        ("Go Forward", "Go Forward"),
        ("take key-card 2", "take keycard "),
        ("ACTION: go forward", "ACTION: go forward"),
        ("世界 go\u3000forward é", " go\u3000forward "),
        ("", ""),
        ("x" * 100_000, "x" * 100_000),
    ],
)
def test_the_naive_agent_keeps_letters_whitespace_and_colons(answer: str, action: str) -> None:
    assert Naive.read(answer).action == action
    assert Naive.read(answer).reasoning is None


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("I see a door.\nACTION: toggle", "toggle"),
        ("**ACTION:** `toggle`.", "toggle"),
        ("ACTION: a\nACTION: b", "b"),
        ("ACTION: <toggle>", "toggle"),
        ("ACTION:", ""),
        ("ACTI-ON: toggle", "toggle"),  # the mark is looked for among the letters
        ("ACTION : toggle", "ACTION : toggle"),
        ("action: toggle", "action: toggle"),
        ("toggle", "toggle"),
        ("", ""),
        ("ACTION: Move West then stop", "Move West then stop"),
    ],
)
def test_the_reasoning_agent_takes_what_follows_the_last_mark(answer: str, action: str) -> None:
    reply = ChainOfThought.read(answer)
    assert (reply.action, reply.reasoning) == (action, answer.strip())


class Maze(Environment):
    actions = ("left", "right")
    default_action = "left"
    max_steps = 5

    def reset(self, seed: int) -> Observation:
        return Observation("start")

    def step(self, action: str) -> tuple[Observation, float, bool, bool]:
        return Observation("on"), 0.0, False, False

    def instruction(self) -> str:
        return "Find the exit.\nMany more words."

    def progression(self) -> float:
        return 0.0


@pytest.mark.parametrize("kind", ["naive", "cot"])
def test_terse_prompts_tell_the_goal_the_actions_and_the_present(kind: str) -> None:
    agent = make_agent(kind, Maze(), "terse")  # type: ignore[arg-type]
    agent.ask(Observation("past"))
    agent.hear("left")
    messages = agent.ask(Observation("present"))
    assert messages[0].text == "Find the exit.\nActions: left, right"
    assert "past" not in "".join(message.text for message in messages)
    assert messages[-1].text == f"Current Observation:\npresent\n\n{AGENTS[kind].question}"  # type: ignore[index]


def test_the_mark_that_is_read_is_the_one_that_is_asked_for() -> None:
    assert "ACTION: <action>" in ChainOfThought.question


def test_a_terse_agent_reads_the_json_answers_of_small_models() -> None:
    history = History("play.", 1, 1, 1)
    assert Naive(history, terse=True).hear('{"thoughts": "a door", "action": "go forward"}') == "go forward"
    assert Naive(history, terse=True).hear("go forward") == "go forward"
    assert Naive(history).hear('{"action": "go forward"}') != "go forward"
