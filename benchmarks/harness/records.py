"""What was asked and answered, one JSON object a line, on disk as soon as it is known.

A killed benchmark resumes: the records that are there are not made again. Beside them, benchmark.json says which
benchmark of which model they belong to; records of another one are never mixed in.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from vldac.utils.errors import UserError
from vldac.utils.files import write_json

IDENTITY, RECORDS, SUMMARY = "benchmark.json", "records.jsonl", "summary.json"
#: The entry of a record's details that says why the question could not be put.
UNANSWERED = "unanswered"


class RecordsError(UserError):
    """The records of a directory cannot be used; the message is one line."""


class OtherBenchmarkError(RecordsError):
    """A directory holds records of another benchmark or another model; the message names what differs."""


@dataclass(frozen=True)
class Record:
    """One question or episode.

    Attributes:
        id: unique in the benchmark.
        task: that it belongs to.
        prompt: as a person would read it; of an episode, its first one.
        images: where the pictures come from.
        answer: word for word; of an episode, its last one.
        parsed: what was read from the answer, None if nothing could be.
        score: in [0, 1].
        metrics: further numbers of the task.
        details: whatever else the benchmark keeps, such as the actions of an episode; of a question that could not be
            put, why, at `UNANSWERED`.
    """

    id: str
    task: str
    prompt: str
    images: tuple[str, ...]
    answer: str
    parsed: str | float | None
    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unanswered(self) -> bool:
        """Whether the question could not be put, because its picture or video could not be read."""
        return UNANSWERED in self.details


def record_of(values: Any) -> Record:
    """The record that a line of JSON holds; fields that records do not have are left out.

    Raises:
        KeyError: a field is missing.
        ValueError: it is no record, or a field is of the wrong type.
        OverflowError: a number is beyond all bounds.
    """
    if not isinstance(values, dict):
        raise ValueError("no object")  # noqa: TRY004  # every fault of a line is caught as one
    texts = {name: values[name] for name in ("id", "task", "prompt", "answer")}
    images, parsed, score = values["images"], values["parsed"], finite(values["score"])
    metrics, details = values.get("metrics", {}), values.get("details", {})
    if not (isinstance(images, list) and all(isinstance(text, str) for text in [*texts.values(), *images])):
        raise ValueError("id, task, prompt, answer or images is of the wrong type")
    objects = isinstance(metrics, dict) and isinstance(details, dict)
    if not objects or not (parsed is None or isinstance(parsed, (str, int, float))):
        raise ValueError("parsed, metrics or details is of the wrong type")
    if not 0 <= score <= 1:
        raise ValueError(f"score is {score}; it must be from 0 to 1")
    for value in metrics.values():
        finite(value)
    return Record(**texts, images=tuple(images), parsed=parsed, score=score, metrics=metrics, details=details)


def finite(value: Any) -> float:
    """A finite number; a truth value, which a benchmark may score with, is 0 or 1.

    Raises:
        ValueError: it is none.
        OverflowError: it is an integer that no float holds.
    """
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r:.80} stands where a number must")
    return float(value)


class Records:
    """The records of one benchmark of one model, in a directory of their own, which no other process writes meanwhile.

    Args:
        directory: is created where it is missing; records that it holds already stay.
        identity: of the benchmark and the model, as JSON.
        overwrite: records of another benchmark or model are removed, and the summary of them.

    Raises:
        OtherBenchmarkError: the directory belongs to another benchmark or model.
        RecordsError: another process fills it, or something in it is no record.
        OSError: it cannot be read or written.
    """

    def __init__(self, directory: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / RECORDS
        self._records: dict[str, Record] = {}
        self._file = self.path.open("a+b")  # written at its end alone
        try:
            self._lock()
            self._claim(json.loads(json.dumps(identity)), overwrite=overwrite)
            self._read()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        """Keeps other processes out until this one closes the file or ends, however it ends."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordsError(
                f"another process writes the records in {self.directory}; wait for it, or name another directory"
            ) from None

    def _claim(self, wanted: dict[str, Any], *, overwrite: bool) -> None:
        """Makes the directory this benchmark's, or finds that it is."""
        path = self.directory / IDENTITY
        found = self._load(path.read_bytes(), str(path)) if path.exists() else wanted
        if found == wanted:
            write_json(path, wanted)
            return
        if not overwrite:
            keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise OtherBenchmarkError(
                f"{self.directory} holds another benchmark (it differs in {', '.join(keys)}); name another directory, "
                "or remove what it holds with --overwrite"
            )
        # In this order: whenever this is killed, no scores of the one stand beside the name of the other.
        (self.directory / SUMMARY).unlink(missing_ok=True)
        self._file.truncate(0)
        write_json(path, wanted)

    def _read(self) -> None:
        """Reads the whole lines that are there; a last half one is dropped."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            where = f"{self.path}, line {number}"
            values = self._load(line, where)
            try:
                record = record_of(values)
            except (KeyError, ValueError, OverflowError) as error:
                raise self._unreadable(where) from error
            self._records[record.id] = record
        self._file.truncate(whole)

    def _load(self, text: bytes, where: str) -> dict[str, Any]:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._unreadable(where) from error
        if not isinstance(values, dict):
            raise self._unreadable(where)
        return values

    def _unreadable(self, where: str) -> RecordsError:
        return RecordsError(
            f"{where}, was not written by a benchmark; remove {self.directory} and run the benchmark again"
        )

    def add(self, record: Record) -> None:
        """Keeps a record; it is on disk when this returns. That of an unanswered question gives way to a later one.

        Raises:
            ValueError: a record of this id is there already.
        """
        if record.id in self:
            raise ValueError(f"there is a record of {record.id} already")
        self._file.write((json.dumps(asdict(record), allow_nan=False) + "\n").encode("ascii"))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._records[record.id] = record

    def __contains__(self, record_id: str) -> bool:
        """Whether there is a record of this id, other than of an unanswered question, which is put again."""
        found = self._records.get(record_id)
        return found is not None and not found.unanswered

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
