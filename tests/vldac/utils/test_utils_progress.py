"""A log hears of long work in plain lines, a terminal sees a bar, a parent is sent what it draws."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable

import pytest

from vldac.utils import progress
from vldac.utils.progress import MARK, TO_PARENT, Progress, Relay, State


class Clock:
    """Stands in for time.monotonic."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.01)


def test_a_line_says_how_far_the_work_is_and_how_long_it_will_take() -> None:
    state = State("warm start", total=600, unit="updates", done=250, first=100, note="loss 0.51")
    assert state.text(60) == "warm start: 250 of 600 updates (42%), 01:00 so far, 02:20 left, loss 0.51"
    assert State("starting").text(75) == "starting: 01:15 so far"
    assert State("nothing", total=0).text(1) == "nothing: 0 of 0 steps (0%), 00:01 so far, ? left"


def test_a_log_is_never_silent_for_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(progress, "_REFRESH", 0.01)
    said: list[str] = []
    with Progress("train", 10, "updates", say=said.append) as work:
        work.advance(2)
        time.sleep(0.1)
        assert said == []
        clock.now += progress.SILENCE
        until(lambda: bool(said))
        assert said == ["train: 2 of 10 updates (20%), 00:15 so far, 01:00 left"]
        clock.now += 5
        work.say("a line")
        clock.now += 12
        time.sleep(0.1)
        assert len(said) == 2  # the line has broken the silence
        clock.now += 3
        until(lambda: len(said) == 3)


def test_of_many_lines_a_log_gets_the_first_the_last_and_one_from_time_to_time(clock: Clock) -> None:
    said: list[str] = []
    with Progress("train", 40, "updates", say=said.append) as work:
        for update in range(1, 41):
            clock.now += 2
            work.advance()
            work.log(f"update {update}")
    assert said == [f"update {number}" for number in (1, 6, 11, 16, 21, 26, 31, 36, 40)]


def test_a_parent_gets_messages_and_shows_them_as_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    monkeypatch.setenv(TO_PARENT, "1")
    with Progress("warm start", 5, "updates") as work:
        work.advance()  # within a second of the first message
        clock.now += 2
        work.advance(note="loss 1")
        work.say("a line")
    sent = capsys.readouterr().out.split("\n")[:-1]
    assert [line[0] == MARK for line in sent] == [True, True, False, True]

    said: list[str] = []
    with Relay("base", said.append) as relay:
        clock.now += 1
        shown = [(relay.take(line), relay.text) for line in sent]
    assert said == ["a line"]
    assert shown[1] == (False, "warm start: 2 of 5 updates (40%), 00:00 so far, 00:00 left, loss 1")
    assert shown[2][0]
    assert shown[3] == (False, "base: 00:01 so far")  # the stage's own clock, once the work in it has ended


@pytest.mark.parametrize(
    "message", ["", "{", "[1]", '{"label": 3}', '{"label": "a", "done": "b"}', '{"label": "a", "x": 1}', "1" * 5000]
)
def test_a_message_that_is_none_changes_nothing(message: str) -> None:
    said: list[str] = []
    relay = Relay("base", said.append)
    assert relay.take(MARK + message) is False
    assert relay.text.startswith("base: ")
    assert said == []


def test_ranks_but_the_first_are_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(TO_PARENT, "1")
    with Progress("train", 1, shown=False) as work:
        work.advance()
        work.log("update 1")
        work.say("warning: nothing is learned")
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_with_lines_above_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("train", 4, "updates", done=1) as work:
        work.advance(2, note="success 0.50 (n 100)")
        work.say("a line")
    drawn = terminal.getvalue()
    assert "train:  25%" in drawn
    assert "3/4 [" in drawn
    assert "success 0.50 (n 100)" in drawn
    assert drawn.endswith("\r")  # the bar is taken away
    assert capsys.readouterr().out == "a line\n"
