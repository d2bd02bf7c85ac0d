"""The published data set: a folder for each task with parquet files, as on the hub in visualwebbench/VisualWebBench.

Every file `<task>/test-*.parquet` has the columns id, task_type, image and answer, and those of `SHOWN_FIELDS`; others
(website, image_size, raw_image, the boxes of labeled elements) are not read. `image` already carries the red boxes
and labels that the questions speak of.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from benchmarks.harness.task import BenchmarkDataError
from benchmarks.suites.visual_web_bench.example import (
    CHOICE_TASKS,
    SHOWN_FIELDS,
    TASKS,
    WEBQA,
    Box,
    Example,
    ParsedResponse,
)
from vldac.models.conversation import Image
from vldac.utils.pictures import PictureError, read_picture

FILES = "test-*.parquet"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def folder(data: Path) -> Path:
    """The folder of the data; what is no folder but reads like a data set's id is fetched from the hub.

    Raises:
        BenchmarkDataError: there is no such folder, or the hub does not give it.
    """
    if data.is_dir():
        return data
    if not _HUB_ID.fullmatch(data.as_posix()):
        raise BenchmarkDataError(
            f"{data} is neither a folder nor a data set's id such as visualwebbench/VisualWebBench"
        )
    from huggingface_hub import snapshot_download  # noqa: PLC0415  # only where something is fetched
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    try:
        found = snapshot_download(data.as_posix(), repo_type="dataset", allow_patterns=[f"{t}/{FILES}" for t in TASKS])
    except (OSError, HFValidationError) as error:  # its errors of network and access are OSErrors
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BenchmarkDataError(f"{data} is no folder, and the hub does not give it: {cause}") from error
    return Path(found)


def read(data: Path, limit: int | None) -> list[Example]:
    """The questions of all tasks, in the order of `TASKS` and of the files, without their pictures.

    Args:
        data: folder with a folder for each task.
        limit: of the questions of each task.

    Raises:
        BenchmarkDataError: a file is missing or is not what the published layout says.
    """
    return [example for task in TASKS for example in _task(data, task, limit)]


def digest(data: Path) -> str:
    """SHA-256 of all files of the data, in hexadecimal."""
    total = hashlib.sha256()
    for task in TASKS:
        for path in _files(data, task):
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _files(data: Path, task: str) -> list[Path]:
    files = sorted((data / task).glob(FILES))
    if not files:
        raise BenchmarkDataError(
            f"{data} has no {task}/{FILES}; it must be laid out as visualwebbench/VisualWebBench is on the hub"
        )
    return files


def _task(data: Path, task: str, limit: int | None) -> list[Example]:
    examples: list[Example] = []
    for path in _files(data, task):
        file = _File(path)
        opened = file.open()
        columns = sorted({"id", "task_type", "answer", *SHOWN_FIELDS[task]})
        if missing := {*columns, "image"} - {*opened.schema_arrow.names}:
            raise BenchmarkDataError(f"{path} has no column {min(missing)}; {task} needs image, {', '.join(columns)}")
        number = 0
        for group in range(opened.num_row_groups):
            for row, values in enumerate(file.rows(group, columns)):
                if limit is not None and len(examples) >= limit:
                    return examples
                try:
                    fields = _fields(task, values)
                except ValueError as error:
                    raise BenchmarkDataError(f"{path}, row {number}: {error}") from error
                examples.append(
                    Example(
                        id=f"{task}/{len(examples):04}",  # the published ids need not be unique
                        task=task,
                        source=f"{task}/{path.name}, row {number}, id {values['id']}",
                        load=partial(file.picture, group, row),
                        **fields,
                    )
                )
                number += 1
    return examples


def _fields(task: str, values: dict[str, Any]) -> dict[str, Any]:
    """The answer and what the prompt shows, checked."""
    if values["task_type"] != task:
        raise ValueError(f"task_type is {values['task_type']!r:.80} in the folder of {task}")
    checks: dict[str, Callable[[str, object], Any]] = {"bbox": _box, "options": _texts}
    fields: dict[str, Any] = {field: checks.get(field, _text)(field, values[field]) for field in SHOWN_FIELDS[task]}
    return fields | {"answer": _answer(task, values["answer"], fields.get("options"))}


def _answer(task: str, value: object, options: Sequence[str] | None) -> ParsedResponse:
    if task == WEBQA:
        return _texts("answer", value)
    if task not in CHOICE_TASKS:
        return _text("answer", value)
    if not isinstance(value, int) or value < 0 or (options is not None and value >= len(options)):
        raise ValueError(f"answer is {value!r:.80}; it must be the index of an option")
    return value


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field} is {value!r:.80}; it must be a text")  # noqa: TRY004  # every fault of a row is caught as one
    return value


def _texts(field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{field} is {value!r:.80}; it must be a list of texts")
    return tuple(value)


def _box(field: str, value: object) -> Box:
    if (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(v, (int, float)) and math.isfinite(v) for v in value)
    ):
        return value[0], value[1], value[2], value[3]
    raise ValueError(f"{field} is {value!r:.80}; it must be four numbers")


class _File:
    """A parquet file whose rows are read a group at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> Any:
        """A `pyarrow.parquet.ParquetFile`."""
        import pyarrow as pa  # noqa: PLC0415  # only where published data is read
        import pyarrow.parquet as pq  # noqa: PLC0415

        try:
            return pq.ParquetFile(self.path)
        except (pa.ArrowException, OSError) as error:
            raise BenchmarkDataError(f"{self.path} is no parquet file: {str(error).splitlines()[0]}") from error

    def rows(self, group: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of one row group."""
        import pyarrow as pa  # noqa: PLC0415

        try:
            return self.open().read_row_group(group, columns=list(columns)).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise BenchmarkDataError(f"{self.path} cannot be read: {str(error).splitlines()[0]}") from error

    def picture(self, group: int, row: int) -> Image:
        """The picture of a row, (H, W, 3) uint8.

        Raises:
            BenchmarkDataError: there is no picture, or it cannot be read.
        """
        value = _images(self, group)[row]
        content = value.get("bytes") if isinstance(value, dict) else None
        try:
            if not isinstance(content, bytes):
                raise PictureError("it holds no bytes")  # noqa: TRY301  # every fault of a picture is told alike
            return read_picture(content, "image")
        except PictureError as error:
            raise BenchmarkDataError(f"{self.path}, group {group}, row {row}: image cannot be read: {error}") from error


@lru_cache(maxsize=1)  # questions come in the order of the file, and its pictures are compressed group by group
def _images(file: _File, group: int) -> list[Any]:
    return [values["image"] for values in file.rows(group, ("image",))]
