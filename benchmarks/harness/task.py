"""What every benchmark has in common: requests to a model, one record for each question or episode, one summary.

A benchmark knows its questions and its rules and nothing of models; a `Runner` answers requests and knows nothing of
benchmarks. A module that declares a benchmark registers it (`benchmarks.harness.registry.register`), and
`python -m benchmarks` runs it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from benchmarks.harness.options import Options, Profile
from benchmarks.harness.records import UNANSWERED, Record, Records
from benchmarks.harness.scores import in_percent, overall
from vldac import parsing
from vldac.models.conversation import Image, Message, plain
from vldac.utils.errors import UserError
from vldac.utils.pictures import PictureError
from vldac.utils.progress import Progress

__all__ = [
    "Benchmark",
    "BenchmarkDataError",
    "Image",
    "Message",
    "MissingPackageError",
    "Options",
    "Question",
    "QuestionBenchmark",
    "Request",
    "Runner",
    "Scored",
    "Unreadable",
]


log = logging.getLogger(__name__)


class BenchmarkDataError(UserError):
    """The data of a benchmark is missing or not what its published layout says; the message is one line."""


class MissingPackageError(UserError, ModuleNotFoundError):
    """A package that a benchmark needs is not installed; the message is one line, with the command that installs it."""


@dataclass(frozen=True)
class Request:
    """What a runner is asked.

    Attributes:
        messages: the conversation so far; the last message is the user's.
        max_new_tokens: an answer that has not ended by then is cut off.
        temperature: 0 takes the likeliest token.
        seed: of the sampling of this one answer, whoever else is answered in the same batch.
    """

    messages: tuple[Message, ...]
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0


class Runner(Protocol):
    """Anything that answers: a model, an expert that knows the solutions, a random choice."""

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One text for each request, in order."""
        ...


class Benchmark(ABC):
    """A benchmark.

    Attributes:
        name: that it is registered by, such as `vsi_bench`.
        title: as people write it, such as `VSI-Bench`.
        version: of its rules; records of another version are never mixed in.
        synthetic: whether its data is made here and only resembles the published data.
        options: what it was made with; a benchmark with options of its own narrows the type.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    synthetic: bool
    options: Options

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def profile(self) -> Profile:
        """That of the options, but `full` where `short` leaves nothing out."""
        return self.options.profile

    def identity(self) -> dict[str, Any]:
        """All that decides the records besides the runner, as JSON: options, a digest of the data, a version.

        This one holds the version and every option but those of speed. A benchmark with data adds a digest of it.
        """
        return {"version": self.version, **self.options.deciding()}

    @abstractmethod
    def run(self, runner: Runner, records: Records) -> None:
        """Adds a record for each question or episode that `records` does not hold yet."""

    @abstractmethod
    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The scores of a whole set of records.

        Returns:
            `score` and `standard_error` in the unit that the benchmark is published in, percent, `count`, and `tasks`:
            the same three for each task, with whatever further metrics the benchmark defines for it under `metrics`.
        """


@dataclass(frozen=True)
class Question:
    """One question of a benchmark whose questions stand by themselves.

    Attributes:
        id: unique in the benchmark.
        task: that it belongs to.
        images: where its pictures come from, for the record.
        load: reads the pictures and makes the messages; called just before the question is put.
        gold: what the benchmark needs to score an answer.
    """

    id: str
    task: str
    images: tuple[str, ...]
    load: Callable[[], tuple[Message, ...]] = field(repr=False)
    gold: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What an answer is worth.

    Attributes:
        score: in [0, 1].
        parsed: what was read from the answer, None if nothing could be.
        metrics: further ones, if the task has several.
    """

    score: float
    parsed: str | float | None
    metrics: Mapping[str, float] = field(default_factory=dict)


class Unreadable:
    """Tells single questions that cannot be put from a data set that is damaged as a whole.

    Args:
        loaded: how many questions could be put before.

    Attributes:
        loaded: how many questions could be put.
    """

    #: Questions that may be lost whatever their share, and the share that may be lost of those seen so far.
    allowed, share = 4, 0.1

    def __init__(self, loaded: int = 0) -> None:
        self.loaded, self._skipped = loaded, 0
        self._error: UserError | None = None

    def skip(self, error: UserError) -> None:
        """Counts a question that cannot be put, for this reason.

        Raises:
            UserError: the reason itself, where more than `allowed` are lost and more than `share` of all seen.
        """
        self._skipped, self._error = self._skipped + 1, error
        if self._skipped > max(self.allowed, self.share * (self.loaded + self._skipped)):
            raise error

    def finish(self) -> int:
        """Called after the last question.

        Returns:
            How many questions could not be put.

        Raises:
            UserError: the last reason, where that is half of them or more.
        """
        if self._error is not None and self._skipped >= self.loaded:
            raise self._error
        return self._skipped


class QuestionBenchmark(Benchmark):
    """A benchmark of independent questions, answered in batches."""

    #: Length limit of an answer, unless the options give one.
    max_new_tokens: int = 64

    @abstractmethod
    def questions(self) -> Sequence[Question]:
        """All questions of the profile, in a fixed order."""

    @abstractmethod
    def score(self, question: Question, text: str) -> Scored:
        """What an answer is worth. Never raises, whatever the text."""

    def run(self, runner: Runner, records: Records) -> None:
        """Puts the questions that have no record yet, `batch_size` at a time.

        One whose picture or video cannot be read is recorded as unanswered and counts as wrong; it is put again when
        the benchmark is next run.

        Raises:
            UserError: that is so of too many questions; see `Unreadable`.
        """
        questions = self.questions()
        open_ones = [question for question in questions if question.id not in records]
        done = len(questions) - len(open_ones)
        unreadable = Unreadable(loaded=done)
        limit = self.options.max_new_tokens or self.max_new_tokens
        with Progress(self.title, len(questions), "questions", done=done) as progress:
            for start in range(0, len(open_ones), self.options.batch_size):
                batch, requests = [], []
                for question in open_ones[start : start + self.options.batch_size]:
                    try:
                        request = Request(question.load(), limit, seed=self.options.seed)
                    except (BenchmarkDataError, PictureError) as error:
                        unreadable.skip(error)
                        records.add(self._unanswered(question, str(error)))
                        progress.advance()
                    else:
                        unreadable.loaded += 1
                        batch.append(question)
                        requests.append(request)
                answers = runner.answer(requests) if requests else []
                for question, request, text in zip(batch, requests, answers, strict=True):
                    scored = self.score(question, unwrap_action(text) if self.options.style == "terse" else text)
                    records.add(
                        Record(
                            id=question.id,
                            task=question.task,
                            prompt=plain(request.messages),
                            images=question.images,
                            answer=text,
                            parsed=scored.parsed,
                            score=scored.score,
                            metrics=dict(scored.metrics),
                        )
                    )
                progress.advance(len(batch))
        if skipped := unreadable.finish():
            log.warning(
                "%d of %d questions of %s could not be put, see %s", skipped, len(questions), self.title, records.path
            )

    def _unanswered(self, question: Question, reason: str) -> Record:
        """The record of a question that could not be put: wrong, in every metric that an empty answer has."""
        return Record(
            id=question.id,
            task=question.task,
            prompt="",
            images=question.images,
            answer="",
            parsed=None,
            score=0.0,
            metrics=dict.fromkeys(self.score(question, "").metrics, 0.0),
            details={UNANSWERED: reason},
        )

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The mean over tasks of the mean over questions, as most published overall scores are."""
        tasks = {
            task: in_percent([record.score for record in records if record.task == task])
            for task in dict.fromkeys(record.task for record in records)
        }
        return overall(tasks)


def unwrap_action(text: str) -> str:
    """What an answer to a `terse` prompt says: the action, where it is the project's JSON answer, else all of it.

    A model of a few million parameters has learned no other form (`vldac.parsing`). Answers to `full` prompts are read
    as the published programs read them, and never by this.
    """
    answer = parsing.parse_response(text)
    return text if answer is None else answer.action
