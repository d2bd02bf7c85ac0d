"""Answers to single questions in batches: a bounded queue before a policy, emptied by one thread.

A response is decided by its prompt, the weights and its seed, and not by what else is in the batch
(`vldac.engines.base.Engine`), so that whoever asks gets what the simulator's policy would have said.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from envs.base import Observation
from vldac.acting import Actor, Decision
from vldac.utils.errors import UserError

#: Share of a new measurement in the running mean of a batch's duration.
_SMOOTHING = 0.2


class BusyError(UserError):
    """A question was not taken, or not answered in time.

    Attributes:
        retry_after: seconds after which there may be room.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass
class _Question:
    observation: Observation
    temperature: float
    seed: int
    deadline: float
    answer: Future[Decision] = field(default_factory=Future)


class Batcher:
    """Answers questions from any thread with one policy.

    Args:
        actor: the policy.
        size: questions that are answered at once, at most.
        wait: seconds for which a batch that is not full waits for more.
        capacity: questions that wait, at most; more are refused.
        on_batch: told the size of each batch.
    """

    def __init__(
        self,
        actor: Actor,
        *,
        size: int = 16,
        wait: float = 0.005,
        capacity: int = 64,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        if size < 1 or capacity < 1 or wait < 0:
            raise ValueError(f"size {size}, capacity {capacity}, wait {wait}: at least 1, 1 and 0")
        self._actor, self._size, self._wait, self._capacity, self._on_batch = actor, size, wait, capacity, on_batch
        self._waiting: deque[_Question] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 0.0  # of a batch, on the average
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Questions that wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether questions are still answered."""
        return self._thread.is_alive()

    @property
    def full(self) -> bool:
        """Whether the next question would be refused."""
        return self._closed or len(self._waiting) >= self._capacity

    def ask(self, observation: Observation, *, temperature: float, seed: int, patience: float) -> Future[Decision]:
        """Queues a question.

        Args:
            observation: what the policy is shown.
            temperature: of sampling; 0 takes the most likely token.
            seed: of the response's sampling, 64 bits at most; without effect at temperature 0.
            patience: seconds within which its turn must come; the answer then fails with `BusyError`.

        Raises:
            BusyError: too many wait, or the batcher is closed.
        """
        with self._changed:
            if self._closed:
                raise BusyError("the server is stopping; ask again later", self.retry_after)
            if len(self._waiting) >= self._capacity:
                raise BusyError(f"{self._capacity} questions wait already; ask again later", self.retry_after)
            question = _Question(observation, temperature, seed, time.monotonic() + patience)
            self._waiting.append(question)
            self._changed.notify()
        return question.answer

    def close(self) -> None:
        """Takes no more questions, answers those that wait, and returns."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def retry_after(self) -> int:
        """Seconds after which what waits now will have been answered, at least 1."""
        batches = math.ceil((len(self._waiting) + 1) / self._size)
        return max(1, math.ceil(batches * self._seconds))

    def _run(self) -> None:
        while batch := self._next():
            self._on_batch(len(batch))
            started = time.monotonic()
            self._answer(batch)
            self._seconds += (time.monotonic() - started - self._seconds) * (_SMOOTHING if self._seconds else 1.0)

    def _next(self) -> list[_Question]:
        """The next batch, of one temperature, in the order of asking; empty once all is answered and it is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                if not self._closed:
                    self._changed.wait_for(lambda: len(self._waiting) >= self._size or self._closed, self._wait)
                batch = self._take()
                if batch:
                    return batch

    def _take(self) -> list[_Question]:
        now, batch, rest = time.monotonic(), list[_Question](), deque[_Question]()
        for question in self._waiting:
            late = now > question.deadline
            fits = len(batch) < self._size and (not batch or question.temperature == batch[0].temperature)
            if not late and not fits:
                rest.append(question)
            elif not question.answer.set_running_or_notify_cancel():
                continue  # whoever asked has gone
            elif late:
                question.answer.set_exception(
                    BusyError("the question's turn did not come in time; ask again later", self.retry_after)
                )
            else:
                batch.append(question)
        self._waiting = rest
        return batch

    def _answer(self, batch: Sequence[_Question]) -> None:
        """Answers a batch; where it fails, each question by itself, so that one that cannot be answered fails alone."""
        try:
            actor = self._actor.at(batch[0].temperature)
            decisions = actor.act([each.observation for each in batch], [each.seed for each in batch])
        except Exception as error:  # noqa: BLE001  # whoever asked is told, whatever it is
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for question in batch:
                self._answer([question])
            return
        for question, decision in zip(batch, decisions, strict=True):
            question.answer.set_result(decision)
