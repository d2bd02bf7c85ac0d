"""Frames of videos that are encoded here: each frame's gray level tells its index."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.harness import video
from benchmarks.harness.task import BenchmarkDataError
from benchmarks.harness.video import frame_indices, read_frames

STEP = 5


def encode(path: Path, frames: int, rate: int = 10, size: tuple[int, int] = (64, 48)) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"crf": "1", "g": "12"}  # several groups of pictures, with frames out of order between
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), STEP * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def indices(frames: tuple[np.ndarray, ...]) -> list[int]:
    return [round(float(frame.mean()) / STEP) for frame in frames]


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [(10, 4, [0, 3, 6, 9]), (41, 8, [0, 5, 11, 17, 22, 28, 34, 40]), (3, 5, [0, 0, 1, 1, 2]), (7, 1, [0])],
)
def test_indices_are_evenly_spaced_and_rounded_down(total: int, count: int, expected: list[int]) -> None:
    assert frame_indices(total, count).tolist() == expected
    if count > 1:
        assert [(total - 1) * k // (count - 1) for k in range(count)] == expected


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv"])
def test_the_right_frames_are_read(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, 41)
    frames = read_frames(path, 8)
    assert indices(frames) == [0, 5, 11, 17, 22, 28, 34, 40]
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in frames)
    opened = read_frames(io.BytesIO(path.read_bytes()), 8, name)
    assert all(np.array_equal(a, b) for a, b in zip(frames, opened, strict=True))


def test_a_short_video_repeats_frames(tmp_path: Path) -> None:
    assert indices(read_frames(encode(tmp_path / "short.mp4", 3), 5)) == [0, 0, 1, 1, 2]


def test_colors_are_red_green_blue(tmp_path: Path) -> None:
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), (200, 20, 20), np.uint8))))
        container.mux(stream.encode())
    red, green, blue = read_frames(path, 1)[0].mean((0, 1))
    assert red > 150
    assert max(green, blue) < 60


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_video_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkDataError) as error:
        read_frames(tmp_path / "absent.mp4", 4)
    assert "there is no video" in one_line(error)
    encode(tmp_path / "real.mp4", 5)
    for name, content in {
        "text.mp4": b"no video at all",
        "empty.mp4": b"",
        # A list of other files is no mp4, whatever its content says.
        "list.mp4": b"ffconcat version 1.0\nfile real.mp4\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BenchmarkDataError) as error:
            read_frames(tmp_path / name, 4)
        assert "cannot be read as a video" in one_line(error)
    (tmp_path / "video.txt").write_bytes(b"")
    with pytest.raises(BenchmarkDataError) as error:
        read_frames(tmp_path / "video.txt", 4)
    assert ".mp4" in one_line(error)


def test_a_cut_off_video_is_an_error(tmp_path: Path) -> None:
    path = encode(tmp_path / "whole.mkv", 41)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 20])
    with pytest.raises(BenchmarkDataError) as error:
        read_frames(path, 4)
    one_line(error)


def test_a_file_without_pictures_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(BenchmarkDataError, match="no pictures"):
        read_frames(path, 4)


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 100), ("MAX_FRAMES", 5), ("MAX_PIXELS", 1000)])
def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    path = encode(tmp_path / "large.mp4", 10)
    assert len(read_frames(path, 2)) == 2
    monkeypatch.setattr(video, limit, value)
    with pytest.raises(BenchmarkDataError) as error:
        read_frames(path, 2)
    assert str(value) in one_line(error)


def test_without_pyav_the_command_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"not installed: pip install av$"):
        read_frames(tmp_path / "video.mp4", 4)
