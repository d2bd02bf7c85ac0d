"""Evenly spaced frames of a video file, decoded by PyAV (FFmpeg)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.task import BenchmarkDataError, MissingPackageError
from vldac.models.conversation import Image

#: Of the file, in bytes.
MAX_BYTES = 8 * 2**30
#: Of the whole video: nine hours at 30 a second.
MAX_FRAMES = 1_000_000
#: Of one frame: 4,096 x 2,304.
MAX_PIXELS = 4096 * 2304
#: FFmpeg is told the format instead of guessing it from the content, which could name further files or addresses.
_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "matroska"}


def frame_indices(total: int, count: int) -> NDArray[np.int64]:
    """`count` indices from the first to the last of `total` frames; a short video repeats some.

    Source: `numpy.linspace` with integer type, as the video models of thinking-in-space and lmms-eval take frames.
    """
    return np.linspace(0, total - 1, count, dtype=np.int64)


def read_frames(source: Path | BinaryIO, count: int, name: str | None = None) -> tuple[Image, ...]:
    """Evenly spaced frames of a video, in order.

    The whole video is decoded: only so is the k-th frame certain to be the k-th.

    Args:
        source: a file, or an open one that can seek.
        count: of frames.
        name: whose ending tells the format, and which messages name; None takes the file's.

    Returns:
        `count` arrays (H, W, 3) uint8.

    Raises:
        BenchmarkDataError: there is no such file, it is no such video, or it is larger than the limits above.
        ModuleNotFoundError: PyAV is not installed.
    """
    av = _pyav()
    name = name or str(source)
    form = _FORMATS.get(Path(name).suffix.lower())
    if form is None:
        raise BenchmarkDataError(f"{name} is no video of a known kind ({', '.join(_FORMATS)})")
    if isinstance(source, Path):
        if not source.is_file():
            raise BenchmarkDataError(f"there is no video {name}; download it, or unpack the archive that it is in")
        if source.stat().st_size > MAX_BYTES:
            raise BenchmarkDataError(f"{name} is larger than {MAX_BYTES} bytes; shorten the video")
    try:
        total = _count(av, source, form, name)
        wanted = frame_indices(total, count)
        decoded = _decode(av, source, form, set(wanted.tolist()))
    except (av.FFmpegError, OSError) as error:
        raise BenchmarkDataError(f"{name} cannot be read as a video ({' '.join(str(error).split())})") from error
    if len(decoded) < len(set(wanted.tolist())):
        raise BenchmarkDataError(f"{name} is damaged: not all of its {total} frames can be decoded; download it again")
    return tuple(decoded[index] for index in wanted.tolist())


def _pyav() -> ModuleType:
    try:
        import av  # noqa: PLC0415  # only published videos need it
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "videos are read by PyAV, which is not installed: pip install av", name="av"
        ) from error
    return av


def _open(av: ModuleType, source: Path | BinaryIO, form: str) -> Any:
    if isinstance(source, Path):
        return av.open(str(source), format=form)
    source.seek(0)
    return av.open(source, format=form)


def _count(av: ModuleType, source: Path | BinaryIO, form: str, name: str) -> int:
    """How many frames there are, by the packets: the count that a file states is often missing or wrong."""
    with _open(av, source, form) as container:
        if not container.streams.video:
            raise BenchmarkDataError(f"{name} holds no pictures; download it again")
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            raise BenchmarkDataError(f"{name} has frames of more than {MAX_PIXELS} pixels; scale the video down")
        total = 0
        for packet in container.demux(stream):
            total += bool(packet.size) and not packet.is_discard
            if total > MAX_FRAMES:
                raise BenchmarkDataError(f"{name} has more than {MAX_FRAMES} frames; shorten the video")
    if total == 0:
        raise BenchmarkDataError(f"{name} holds no frames; download it again")
    return total


def _decode(av: ModuleType, source: Path | BinaryIO, form: str, wanted: set[int]) -> dict[int, Image]:
    frames: dict[int, Image] = {}
    with _open(av, source, form) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                frames[index] = frame.to_ndarray(format="rgb24")
            if len(frames) == len(wanted):
                break
    return frames
