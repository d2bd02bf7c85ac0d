"""What was asked and answered, one JSON object a line, on disk as soon as it is known.

A killed exam goes on where it was: the records that are there are not made again. Beside them, exam.json says which
exam of which model they belong to; records of another one are never mixed in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from vldac.checkpoint import write_json

IDENTITY, RECORDS = "exam.json", "records.jsonl"


class OtherExamError(ValueError):
    """A directory holds records of another exam or another model; the message names what differs."""


@dataclass(frozen=True)
class Record:
    """One question or episode.

    Attributes:
        id: unique in the exam.
        task: that it belongs to.
        prompt: as a person would read it; of an episode, its first one.
        images: where the pictures come from.
        answer: word for word; of an episode, its last one.
        parsed: what was read from the answer, None if nothing could be.
        score: in [0, 1].
        metrics: further numbers of the task.
        details: whatever else the exam keeps, such as the actions of an episode.
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


class Records:
    """The records of one exam of one model, in a directory of their own.

    Args:
        directory: is made, or goes on being filled.
        identity: of the exam and the model, as JSON.
        overwrite: records of another exam or model are removed.

    Raises:
        OtherExamError: the directory belongs to another exam or model.
        OSError: it cannot be read or written.
    """

    def __init__(self, directory: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        wanted = json.loads(json.dumps(identity))
        found = wanted
        if (directory / IDENTITY).exists():
            found = json.loads((directory / IDENTITY).read_text(encoding="utf-8"))
        if found != wanted and not overwrite:
            keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise OtherExamError(
                f"{directory} holds another exam (it differs in {', '.join(keys)}); name another directory or remove it"
            )
        if found != wanted:
            (directory / RECORDS).unlink(missing_ok=True)
        write_json(directory / IDENTITY, wanted)
        self.path = directory / RECORDS
        self._records: dict[str, Record] = {}
        whole = self._read()
        self._file = self.path.open("r+b" if self.path.exists() else "w+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    def _read(self) -> int:
        """Reads the whole lines that are there, and returns their length in bytes: a last half one is dropped."""
        if not self.path.exists():
            return 0
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].splitlines():
            values = json.loads(line)
            record = Record(**values | {"images": tuple(values["images"])})
            self._records[record.id] = record
        return whole

    def add(self, record: Record) -> None:
        """Keeps a record; it is on disk when this returns.

        Raises:
            ValueError: a record of this id is there already.
        """
        if record.id in self._records:
            raise ValueError(f"there is a record of {record.id} already")
        self._file.write((json.dumps(asdict(record), allow_nan=False) + "\n").encode("ascii"))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._records[record.id] = record

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._records

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
