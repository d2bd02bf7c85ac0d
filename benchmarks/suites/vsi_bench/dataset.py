"""The published VSI-Bench: a table of questions, and the videos that they are about.

Source: https://huggingface.co/datasets/nyu-visionx/VSI-Bench (Apache-2.0): `test.jsonl` or `test-*.parquet`, and videos
`{dataset}/{scene_name}.mp4` in folders, or still inside `{dataset}.zip` as they are published.
"""

from __future__ import annotations

import io
import math
import re
import string
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.tables import Row, locate, read_rows
from benchmarks.harness.task import BenchmarkDataError
from benchmarks.harness.video import read_frames
from benchmarks.suites.vsi_bench.scoring import MULTIPLE_CHOICE, NUMERIC
from vldac.models.conversation import Image

_FIELDS = ("id", "dataset", "scene_name", "question_type", "question", "options", "ground_truth")
_NAME = re.compile(r"\w[\w.-]*")
#: Of a video that is read from an archive, into memory.
_MAX_BYTES = 2**30
#: A video is compressed already, so that an archive saves little: one that saves more than this factor is no video.
_MAX_COMPRESSION = 10
#: In bytes; what is small may be a short video of one color.
_SMALL = 2**22


@dataclass(frozen=True)
class Item:
    """One row of the table.

    Attributes:
        id: unique in the table.
        dataset: which collection the video is from.
        scene_name: of the video.
        question_type: one of `scoring.MULTIPLE_CHOICE` and `scoring.NUMERIC`.
        question: in words.
        options: such as "A. left"; none for a numeric question.
        ground_truth: a letter, or a positive number.
    """

    id: str
    dataset: str
    scene_name: str
    question_type: str
    question: str
    options: tuple[str, ...]
    ground_truth: str

    @property
    def video(self) -> str:
        """The video's path below the folder of the data."""
        return f"{self.dataset}/{self.scene_name}.mp4"


class Videos:
    """The videos of a folder, unpacked or not.

    Args:
        folder: of the data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._members: dict[Path, dict[str, zipfile.ZipInfo]] = {}

    def size(self, video: str) -> int:
        """How large `{dataset}/{scene_name}.mp4` is, in bytes.

        Raises:
            BenchmarkDataError: it is not there.
        """
        path, archive = self._paths(video)
        if path.is_file():
            return path.stat().st_size
        return self._member(path, archive, video).file_size

    def read(self, video: str, frames: int) -> tuple[Image, ...]:
        """Evenly spaced frames of `{dataset}/{scene_name}.mp4`, each (H, W, 3) uint8.

        Raises:
            BenchmarkDataError: the video is missing or cannot be read.
            ModuleNotFoundError: PyAV is not installed.
        """
        path, archive = self._paths(video)
        if path.is_file():
            return read_frames(path, frames)
        member = self._member(path, archive, video)
        if member.file_size > _MAX_BYTES:
            raise BenchmarkDataError(f"{video} is larger than {_MAX_BYTES} bytes; unpack {archive}")
        if member.file_size > max(_SMALL, _MAX_COMPRESSION * member.compress_size):
            raise BenchmarkDataError(
                f"{video} in {archive} would grow from {member.compress_size} to {member.file_size} bytes, as no video "
                "does; download it again"
            )
        try:
            with zipfile.ZipFile(archive) as content, content.open(member) as stream:
                data = io.BytesIO(stream.read(member.file_size))
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # RuntimeError: encrypted
            raise BenchmarkDataError(f"{video} cannot be read from {archive}; download it again") from error
        return read_frames(data, frames, video)

    def _paths(self, video: str) -> tuple[Path, Path]:
        return self.folder / video, self.folder / f"{video.partition('/')[0]}.zip"

    def _member(self, path: Path, archive: Path, video: str) -> zipfile.ZipInfo:
        member = self._archive(archive).get(video)
        if member is None:
            raise BenchmarkDataError(f"there is neither {path} nor {archive} with {video} in it; download one of them")
        return member

    def _archive(self, path: Path) -> dict[str, zipfile.ZipInfo]:
        """What an archive holds, by name; nothing where there is no such file."""
        if path not in self._members:
            try:
                with zipfile.ZipFile(path) as content:
                    self._members[path] = {info.filename: info for info in content.infolist()}
            except FileNotFoundError:
                self._members[path] = {}
            except (OSError, zipfile.BadZipFile) as error:
                raise BenchmarkDataError(f"{path} is no readable archive; download it again") from error
        return self._members[path]


def load(data: Path) -> tuple[list[Item], Videos]:
    """The questions in their published order, and their videos.

    Args:
        data: the folder, or the name of the data set on the Hugging Face hub.

    Raises:
        BenchmarkDataError: something is missing, or not what the published layout says.
    """
    folder = locate(data, ("test.jsonl", "test-*.parquet", "*.zip", "*/*.mp4"))
    tables = [path for path in (folder / "test.jsonl",) if path.is_file()] or sorted(folder.glob("test-*.parquet"))
    if not tables:
        raise BenchmarkDataError(
            f"{folder} has neither test.jsonl nor test-*.parquet; name the folder of the published data"
        )
    items: dict[str, Item] = {}
    for table in tables:
        for row in read_rows(table, _FIELDS):
            item = _item(row)
            if item.id in items:
                raise row.error(f"the id {item.id} occurs twice")
            items[item.id] = item
    if not items:
        raise BenchmarkDataError(f"{tables[0]} holds no questions; download the published file again")
    return list(items.values()), Videos(folder)


def _item(row: Row) -> Item:
    item = Item(
        id=row.text("id"),
        dataset=row.text("dataset"),
        scene_name=row.text("scene_name"),
        question_type=row.text("question_type"),
        question=row.text("question"),
        options=row.texts("options"),
        ground_truth=row.text("ground_truth"),
    )
    for name in (item.dataset, item.scene_name):
        if not _NAME.fullmatch(name):
            raise row.error(f"{name[:40]!r} is no name of a video")
    if item.question_type in MULTIPLE_CHOICE:
        if not 2 <= len(item.options) <= len(string.ascii_uppercase):
            raise row.error(f"it has {len(item.options)} options")
        row.letter("ground_truth", string.ascii_uppercase[: len(item.options)])
    elif item.question_type not in NUMERIC:
        raise row.error(f"{item.question_type[:40]!r} is no question type of VSI-Bench")
    elif not _positive(item.ground_truth):
        raise row.error(f"the ground truth {item.ground_truth[:40]!r} is no positive number")
    return item


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False
