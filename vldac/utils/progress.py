"""How far a long piece of work is: a bar on a terminal, plain lines in a log, messages to a parent that shows them.

A stage is often a child of a child of what a person typed, and its output a pipe. It then says how far it is in
messages, lines that begin with `MARK`, and the process at the terminal, which asks for them by the environment
variable `TO_PARENT`, draws them; see `Relay`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

#: Set for processes whose output is read by a `Relay`.
TO_PARENT = "VLDAC_PROGRESS_TO_PARENT"
#: Begins a message: ASCII's record separator, which no line for a person begins with.
MARK = "\x1e"
#: Seconds without a line after which a log is told how far the work is, and at least between two lines of `log`.
SILENCE, LOG_EVERY = 15.0, 10.0
#: Seconds between two messages, and between two drawings of a bar that nothing has moved.
_REFRESH = 1.0
_LONGEST = 4096  # characters of a message
_COUNTED = "{desc}: {n_fmt} of {total_fmt} {unit} ({percentage:.0f}%), {elapsed} so far, {remaining} left{postfix}"
_UNCOUNTED = "{desc}: {elapsed} so far{postfix}"


@dataclass(frozen=True)
class State:
    """How far a piece of work is.

    Attributes:
        label: what is done.
        total: units that there are; None where they cannot be counted.
        unit: of them, in the plural.
        done: of them.
        first: of them that were done before the clock started.
        note: what else is worth knowing, such as the success so far.
    """

    label: str
    total: int | None = None
    unit: str = "steps"
    done: int = 0
    first: int = 0
    note: str = ""

    def text(self, seconds: float) -> str:
        """One line, with the time so far and the time left at the mean speed so far."""
        form = _UNCOUNTED if self.total is None else _COUNTED
        line = tqdm.format_meter(
            self.done,
            self.total or 0,
            max(seconds, 1e-9),
            prefix=self.label,
            unit=self.unit,
            initial=self.first,
            postfix=self.note,
            bar_format=form,
        )
        return str(line).strip()


def write(line: str) -> None:
    """Prints a line, above the bar where there is one."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


class Progress:
    """A context in which a piece of work is done and says how far it is; nothing is silent for longer than `SILENCE`.

    Args:
        label: what is done.
        total: units that there are; None where they cannot be counted.
        unit: of them, in the plural.
        done: of them already.
        say: takes each line for a person; None prints them.
        shown: False for ranks that leave the talking to the first.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        unit: str = "steps",
        *,
        done: int = 0,
        say: Callable[[str], None] | None = None,
        shown: bool = True,
    ) -> None:
        self._say = say or write
        self._shown = shown
        self._to_parent = TO_PARENT in os.environ and say is None
        self._on_terminal = not self._to_parent and sys.stderr.isatty()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._bar: tqdm[Any] | None = None
        self._state = State(label, total, unit, done, done)
        self._started = self._said = time.monotonic()
        self._sent = 0.0
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Starts the clock."""
        self._begin(self._state)
        if self._shown and not self._to_parent:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Takes the bar away; what came of the work is for others to say."""
        self._stop.set()
        with self._lock:
            self._draw(None)
            if self._shown and self._to_parent:
                self._send(None)

    def begin_at(self, done: int) -> None:
        """Counts units as done before the clock started, which starts now."""
        with self._lock:
            self._begin(replace(self._state, done=done, first=done))

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Counts units as done; `note` is shown beside them from now on."""
        with self._lock:
            self._show(replace(self._state, done=self._state.done + count, note=note or self._state.note))

    def say(self, line: str) -> None:
        """A line that a person must see."""
        if self._shown:
            with self._lock:
                self._said = time.monotonic()
                self._say(line)

    def log(self, line: str) -> None:
        """A line of which there are many: it is left out if the last line is younger than `LOG_EVERY`."""
        if time.monotonic() - self._said >= LOG_EVERY or self._state.done in {self._state.first + 1, self._state.total}:
            self.say(line)

    @property
    def done(self) -> int:
        """Units that are done."""
        return self._state.done

    @property
    def text(self) -> str:
        """How far the work is, in one line."""
        return self._state.text(time.monotonic() - self._started)

    def _begin(self, state: State) -> None:
        """Shows another piece of work, whose clock starts now."""
        self._state, self._started = state, time.monotonic()
        self._draw(state)
        if self._shown and self._to_parent:
            self._send(state)

    def _show(self, state: State) -> None:
        self._state = state
        if self._bar is not None:
            self._bar.set_postfix_str(state.note, refresh=False)
            self._bar.update(state.done - self._bar.n)
        if self._shown and self._to_parent and time.monotonic() - self._sent >= _REFRESH:
            self._send(state)

    def _draw(self, state: State | None) -> None:
        """A bar of its own for each piece of work."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if state is not None and self._shown and self._on_terminal:
            form = None if state.total is not None else _UNCOUNTED
            columns, lines = shutil.get_terminal_size()  # tqdm shows nothing on a terminal that does not tell its size
            self._bar = tqdm(
                total=state.total,
                initial=state.first,
                desc=state.label,
                unit=f" {state.unit}",
                file=sys.stderr,
                leave=False,
                ncols=columns,
                nrows=lines,
                bar_format=form,
            )

    def _send(self, state: State | None) -> None:
        self._sent = time.monotonic()
        print(MARK + json.dumps(None if state is None else asdict(state)), flush=True)

    def _watch(self) -> None:
        """Keeps the clock of a bar going, or breaks a log's silence."""
        while not self._stop.wait(_REFRESH):
            with self._lock:
                if self._stop.is_set():
                    return
                if self._bar is not None:
                    self._bar.refresh()
                elif time.monotonic() - self._said >= SILENCE - _REFRESH:
                    self.say(self.text)


class Relay(Progress):
    """Shows the progress of a child process; its environment has `TO_PARENT`, and each of its lines is given to `take`.

    Args:
        label: what the child does, as far as it does not say so itself.
        say: takes each line that is for a person.
    """

    def __init__(self, label: str, say: Callable[[str], None]) -> None:
        super().__init__(label, say=say)
        self._own, self._since = self._state, self._started

    def take(self, line: str) -> bool:
        """Shows a line of the child.

        Returns:
            Whether it was one for a person, and no message.
        """
        if not line.startswith(MARK):
            self.say(line)
            return True
        with self._lock:
            state = _read(line)
            if state is None:
                self._begin(self._own)
                self._started = self._since
            elif (state.label, state.total) != (self._state.label, self._state.total):
                self._begin(state)
            else:
                self._show(state)
        return False


def _read(line: str) -> State | None:
    """The state of a message; None where the child has ended its piece of work, or where it is none of `Progress`."""
    if len(line) > _LONGEST:
        return None
    try:
        values = json.loads(line.removeprefix(MARK))
        state = State(**values)
    except (ValueError, TypeError):
        return None
    numbers = (state.done, state.first, 0 if state.total is None else state.total)
    texts = (state.label, state.unit, state.note)
    well = all(type(number) is int for number in numbers) and all(type(text) is str for text in texts)
    return state if well else None
