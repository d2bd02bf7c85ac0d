"""Published data sets as they lie in a folder: tables of JSON lines or parquet, pictures inside of them.

Files from elsewhere are not to be trusted: every field is checked when it is read, sizes are bounded, and whatever is
wrong is said in one line that names the file and the row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.task import BenchmarkDataError
from vldac.models.conversation import Image
from vldac.utils.pictures import PictureError, read_picture

MAX_ROWS = 200_000
#: Of a table of JSON lines, in bytes.
MAX_BYTES = 2**29
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Row:
    """One row of a published table.

    Attributes:
        path: of the table.
        index: of the row, from 0.
        values: its fields; the methods check what they return.
    """

    path: Path
    index: int
    values: dict[str, Any]

    def error(self, problem: str) -> BenchmarkDataError:
        """What is wrong with this row, to be raised."""
        return BenchmarkDataError(f"{self.path}, row {self.index}: {problem}; download the published file again")

    def text(self, name: str) -> str:
        """A field that holds a text or a number, as text.

        Raises:
            BenchmarkDataError: it holds something else, nothing, or the empty text.
        """
        value = self.values.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"field {name!r} holds no text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that holds a list of texts; where it is missing or null, none.

        Raises:
            BenchmarkDataError: it holds something else.
        """
        value = self.values.get(name)
        value = [] if value is None else value
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise self.error(f"field {name!r} holds no list of texts")
        return tuple(value)

    def letter(self, name: str, choices: str) -> str:
        """A field that holds one of the letters `choices`.

        Raises:
            BenchmarkDataError: it holds something else.
        """
        value = self.text(name)
        if len(value) != 1 or value not in choices:
            raise self.error(f"field {name!r} is {value[:40]!r}, which is none of the options {', '.join(choices)}")
        return value


def locate(data: Path, patterns: Sequence[str]) -> Path:
    """The folder of a data set: `data` itself, or a download of the data set of this name on the Hugging Face hub.

    Args:
        data: a folder, or `owner/name`.
        patterns: which files to download.

    Raises:
        BenchmarkDataError: it is neither.
    """
    name = data.as_posix()
    if data.is_dir():
        return data
    if not _HUB_NAME.fullmatch(name):
        raise BenchmarkDataError(
            f"there is no folder {data}; name the folder of the published data, or owner/name on the hub"
        )
    from huggingface_hub import snapshot_download  # noqa: PLC0415  # only a download needs it
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=list(patterns)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BenchmarkDataError(
            f"there is no folder {data}, and the hub does not give a data set {name} ({reason})"
        ) from error


def read_rows(path: Path, columns: Iterable[str]) -> list[Row]:
    """The named columns of a table, `*.jsonl` or `*.parquet`, row by row; fields that a row lacks stay out.

    Raises:
        BenchmarkDataError: the file cannot be read, or has more than `MAX_ROWS` rows.
    """
    columns = set(columns)
    try:
        rows = _json_lines(path) if path.suffix == ".jsonl" else _parquet(path, columns)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    return [Row(path, index, {name: row[name] for name in columns & row.keys()}) for index, row in enumerate(rows)]


def read_pictures(row: Row, column: str) -> list[Image]:
    """The pictures of one row of a parquet table, each (H, W, 3) uint8; empty slots are left out.

    Args:
        row: where it is.
        column: which holds a list of {bytes, path}.

    Raises:
        BenchmarkDataError: the column does not hold pictures.
    """
    group, offset = _place(row.path, row.index)
    try:
        cells = _group(row.path, group, column)
    except (OSError, ValueError) as error:
        raise _unreadable(row.path, error) from error
    cell = cells[offset]
    if not isinstance(cell, list):
        raise row.error(f"field {column!r} holds no list of pictures")
    return [_picture(row, column, entry) for entry in cell if entry is not None]


def _unreadable(path: Path, error: BaseException) -> BenchmarkDataError:
    return BenchmarkDataError(
        f"{path} cannot be read ({' '.join(str(error).split())[:200]}); download the published file again"
    )


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if len(rows) > MAX_ROWS or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"not at most {MAX_ROWS} lines with one JSON object each")
    return rows


def _parquet(path: Path, columns: set[str]) -> list[dict[str, Any]]:
    from pyarrow import parquet  # noqa: PLC0415  # only published tables need it

    with parquet.ParquetFile(path) as table:
        if table.metadata.num_rows > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} rows")
        return table.read(columns=sorted(columns & set(table.schema_arrow.names))).to_pylist()


@lru_cache(maxsize=64)
def _starts(path: Path) -> tuple[int, ...]:
    """The first row of each row group, and the number of rows."""
    from pyarrow import parquet  # noqa: PLC0415

    with parquet.ParquetFile(path) as table:
        counts = [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]
    return tuple(np.cumsum([0, *counts]).tolist())


def _place(path: Path, index: int) -> tuple[int, int]:
    starts = _starts(path)
    group = int(np.searchsorted(starts, index, side="right")) - 1
    return group, index - starts[group]


@lru_cache(maxsize=1)  # rows are asked for in order, and a group of rows may hold 100 MB of pictures
def _group(path: Path, group: int, column: str) -> list[Any]:
    from pyarrow import parquet  # noqa: PLC0415

    with parquet.ParquetFile(path) as table:
        if column not in table.schema_arrow.names:
            raise ValueError(f"no column {column!r}")
        return table.read_row_group(group, columns=[column])[column].to_pylist()


def _picture(row: Row, column: str, entry: Any) -> Image:
    content = entry.get("bytes") if isinstance(entry, dict) else None
    if not isinstance(content, bytes):
        raise row.error(f"field {column!r} holds a picture without its bytes")
    try:
        return read_picture(content, f"the picture in field {column!r}")
    except PictureError as error:
        raise row.error(str(error).partition(";")[0]) from error
