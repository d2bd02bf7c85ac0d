"""What benchmarks of published multiple-choice questions have in common."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.harness.options import Profile
from benchmarks.harness.records import Record
from benchmarks.harness.scores import in_percent
from benchmarks.harness.tables import Row, locate, read_rows
from benchmarks.harness.task import BenchmarkDataError, Options, Question, QuestionBenchmark, Scored
from vldac.models.conversation import Image, Message


class ChoiceSet(QuestionBenchmark):
    """A benchmark whose score is the share of right letters over all of its questions, whatever their task.

    Attributes:
        hub_name: of the data set on the Hugging Face hub.
        columns: of its tables, but for pictures.
        id_column: names a question.
        task_column: names its task.

    Args:
        options: `data` is the folder or the hub's name of the published data; `limit` (questions of each task) and
            `frames` (of videos) are taken too.

    Raises:
        BenchmarkDataError: there is no data, or it is not as published.
    """

    hub_name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    id_column: ClassVar[str]
    task_column: ClassVar[str]
    synthetic = False

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        if options.data is None:
            raise BenchmarkDataError(
                f"{self.title} has no synthetic set; name the folder of its published data, or {self.hub_name}"
            )
        self.folder = locate(options.data, ("*.parquet",))
        tables = sorted(self.folder.rglob("test*.parquet"))
        if not tables:
            raise BenchmarkDataError(f"{self.folder} has no test*.parquet; name the folder of {self.hub_name}")
        self._rows = self._select(row for table in tables for row in read_rows(table, self.columns))
        self._data = hashlib.sha256(
            json.dumps([[self._prompt(row), self.letter(row)] for row in self._rows.values()]).encode()
        ).hexdigest()

    @abstractmethod
    def letter(self, row: Row) -> str:
        """The right option."""

    @abstractmethod
    def text(self, row: Row) -> str:
        """What is asked, with its options, as a model reads it; `<image>` stands for a picture in between."""

    @abstractmethod
    def pictures(self, row: Row) -> Sequence[Image]:
        """The row's pictures, each (H, W, 3) uint8."""

    @abstractmethod
    def read(self, text: str) -> str:
        """What is held against the right letter, read from an answer."""

    def wanted(self, row: Row) -> bool:
        """Whether a row belongs to the benchmark."""
        return True

    def content(self, row: Row) -> tuple[str | Image, ...]:
        """The message: pictures, then the text."""
        return (*self.pictures(row), self.text(row))

    def questions(self) -> Sequence[Question]:
        """See `QuestionBenchmark`."""
        return [
            Question(
                id=name,
                task=row.text(self.task_column),
                images=(f"{row.path.name}, row {row.index}",),
                load=partial(self._load, row),
                gold={"letter": self.letter(row)},
            )
            for name, row in self._rows.items()
        ]

    def score(self, question: Question, text: str) -> Scored:
        """See `QuestionBenchmark`."""
        read = self.read(text)
        return Scored(float(read == question.gold["letter"]), read[:64] or None)

    @property
    def profile(self) -> Profile:
        """See `Benchmark`; every question is put."""
        return "full"

    def identity(self) -> dict[str, Any]:
        """See `Benchmark`; the data counts by its texts and its letters."""
        return {
            "benchmark": self.name,
            "version": self.version,
            "synthetic": False,
            "data": self._data,
            "frames": self.options.frames,
            "max_new_tokens": self.options.max_new_tokens or self.max_new_tokens,
            "seed": self.options.seed,
        }

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The share of right letters, over all questions and for each task."""
        tasks = sorted({record.task for record in records})
        return in_percent([record.score for record in records]) | {
            "tasks": {task: in_percent([record.score for record in records if record.task == task]) for task in tasks}
        }

    def _select(self, rows: Iterable[Row]) -> dict[str, Row]:
        selected: dict[str, Row] = {}
        counts: dict[str, int] = {}
        for row in rows:
            task, name = row.text(self.task_column), row.text(self.id_column)
            if name in selected:
                raise row.error(f"the {self.id_column} {name[:40]} occurs twice")
            counts[task] = counts.get(task, 0) + 1
            if self.wanted(row) and (self.options.limit is None or counts[task] <= self.options.limit):
                selected[name] = row
        if not selected:
            raise BenchmarkDataError(
                f"{self.folder} holds no questions of {self.title}; download {self.hub_name} again"
            )
        return selected

    def _prompt(self, row: Row) -> list[str]:
        return [row.text(self.id_column), row.text(self.task_column), self.text(row)]

    def _load(self, row: Row) -> tuple[Message, ...]:
        return (Message("user", self.content(row)),)


def lettered(options: Sequence[str]) -> str:
    """Options under each other, each after its letter."""
    return "\n".join(f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(options))


def below(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these files that a folder has."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
