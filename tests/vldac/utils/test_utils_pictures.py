from __future__ import annotations

import ast
import base64
import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin

from vldac.utils import pictures
from vldac.utils.errors import UserError
from vldac.utils.pictures import PictureError, pad_narrow, read_base64, read_picture, to_rgb

REPOSITORY = Path(__file__).parents[3]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
SCENE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def encoded(picture: PIL.Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_every_allowed_format_is_read(kind: str, tmp_path: Path) -> None:
    plain = np.zeros((16, 24, 3), np.uint8)
    plain[:, :12] = (255, 255, 255)
    content = encoded(PIL.Image.fromarray(plain), kind)
    found = read_picture(content)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert np.abs(found.astype(int) - plain).max() <= 8
    (tmp_path / "a").write_bytes(content)
    assert np.array_equal(read_picture(tmp_path / "a"), found)
    assert np.array_equal(read_base64(base64.b64encode(content).decode()), found)


def test_pixels_are_unchanged_where_the_format_keeps_them() -> None:
    assert np.array_equal(read_picture(encoded(PIL.Image.fromarray(SCENE))), SCENE)


def test_no_other_reader_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def ghostscript(*_: Any, **__: Any) -> None:
        pytest.fail("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    for content in (EPS, encoded(PIL.Image.fromarray(SCENE), "TIFF"), encoded(PIL.Image.fromarray(SCENE), "PPM")):
        with pytest.raises(PictureError, match=r"cannot be read as a picture.*; give a whole picture as PNG"):
            read_picture(content)


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_a_picture_that_is_cut_short_is_never_filled_up(kind: str) -> None:
    content = encoded(PIL.Image.fromarray(SCENE), kind)
    for length in {0, 1, 8, 20, len(content) // 2}:
        with pytest.raises(PictureError) as error:
            read_picture(content[:length], "row 3")
        assert str(error.value).startswith("row 3 cannot be read")
        assert "\n" not in str(error.value)
        assert isinstance(error.value, UserError)


@given(st.sampled_from(pictures.FORMATS), st.integers(0, 2**30), st.binary(min_size=1, max_size=8))
def test_damage_is_told_by_one_error_alone(kind: str, place: int, damage: bytes) -> None:
    content = bytearray(encoded(PIL.Image.fromarray(SCENE), kind))
    place %= len(content)
    content[place : place + len(damage)] = damage
    try:
        found = read_picture(bytes(content))
    except PictureError:
        return
    assert (found.ndim, found.shape[2], found.dtype) == (3, 3, np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


@pytest.mark.parametrize("side", [10_001, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    header = side.to_bytes(4, "big") + side.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(PictureError, match="has more than 100000000 pixels; scale the picture down"):
        read_picture(bomb)


def test_whoever_takes_less_says_so() -> None:
    content = encoded(PIL.Image.fromarray(SCENE))
    assert np.array_equal(read_picture(content, max_pixels=16 * 24), SCENE)
    with pytest.raises(PictureError, match="has more than 383 pixels"):
        read_picture(content, max_pixels=16 * 24 - 1)
    with pytest.raises(PictureError, match="has more than 383 pixels"):
        read_base64(base64.b64encode(content).decode(), max_pixels=16 * 24 - 1)


def test_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", 10)
    (tmp_path / "a.png").write_bytes(encoded(PIL.Image.fromarray(SCENE)))
    with pytest.raises(PictureError, match=r"a\.png has more than 10 bytes"):
        read_picture(tmp_path / "a.png")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent.png", tmp_path, tmp_path / "pipe"):
        with pytest.raises(PictureError, match="there is no picture"):
            read_picture(path)


@pytest.mark.parametrize("text", ["no base64!", "é", "====", 3])
def test_what_is_no_base64_is_told(text: Any) -> None:
    with pytest.raises(PictureError, match="base64"):
        read_base64(text, "image")


def test_gray_of_sixteen_bits_is_scaled() -> None:
    values = np.array([[0, 255, 256, 32_768, 65_535]], np.uint16)
    wanted = np.repeat(np.array([[0, 0, 1, 128, 255]], np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(read_picture(encoded(PIL.Image.fromarray(values))), wanted)
    assert np.array_equal(to_rgb(PIL.Image.fromarray(values.astype(np.int32))), wanted)
    assert np.array_equal(to_rgb(PIL.Image.fromarray(values.astype(">u2"))), wanted)


def test_transparency_is_dropped_and_palettes_are_looked_up() -> None:
    rgba = np.array([[[1, 2, 3, 0], [10, 20, 30, 255]]], np.uint8)
    assert read_picture(encoded(PIL.Image.fromarray(rgba)))[0].tolist() == [[1, 2, 3], [10, 20, 30]]
    gray = np.array([[[7, 0], [50, 255]]], np.uint8)
    assert read_picture(encoded(PIL.Image.fromarray(gray)))[0].tolist() == [[7] * 3, [50] * 3]
    palette = PIL.Image.new("P", (2, 1))
    palette.putpalette([0, 0, 9, 200, 10, 10])
    palette.putpixel((1, 0), 1)
    for options in ({}, {"transparency": 0}):
        assert read_picture(encoded(palette, "PNG", **options))[0].tolist() == [[0, 0, 9], [200, 10, 10]]


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "RGB"])
def test_other_kinds_of_color_are_converted(mode: str) -> None:
    picture = PIL.Image.fromarray(SCENE).convert(mode)
    assert np.array_equal(to_rgb(picture), np.asarray(picture.convert("RGB")))


def test_an_orientation_is_left_alone() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    assert read_picture(encoded(PIL.Image.fromarray(SCENE), exif=exif)).shape == SCENE.shape


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((4, 1000), (5, 1000)),
        ((1000, 4), (1000, 5)),
        ((5, 1000), (5, 1000)),
        ((1, 1), (4, 4)),
        ((3, 60), (4, 60)),
        ((1, 2001), (11, 2001)),
    ],
)
def test_narrow_pictures_are_padded_with_their_edge(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    padded = pad_narrow(picture)
    assert padded.shape == (*wanted, 3)
    assert np.array_equal(padded[: size[0], : size[1]], picture)
    assert np.array_equal(padded[-1, -1], picture[-1, -1])
    assert (padded is picture) == (size == wanted)


def opens(source: str) -> list[str]:
    """Every call of Pillow's `open`, under whatever name, and every use of a reader of its own."""
    tree = ast.parse(source)
    modules, functions = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {a.asname or a.name for a in node.names if a.name == "PIL.Image"}
        elif isinstance(node, ast.ImportFrom) and node.module == "PIL":
            modules |= {a.asname or a.name for a in node.names if a.name == "Image"}
        elif isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
            functions |= {a.asname or a.name for a in node.names if a.name == "open"}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        module, _, name = function.rpartition(".")
        if (name == "open" and module in modules) or function in functions or "ImagePlugin." in function:
            found.append(ast.unparse(node))
    return found


def test_no_other_module_opens_pictures() -> None:
    # The simulators import nothing of this project; they open what Chromium draws, MiniWorld's textures, and what an
    # OpenEnv server sends, within bounds of their own.
    allowed = {
        "envs/webshop/browser.py": ["Image.open(io.BytesIO(png), formats=['PNG'])"],
        "envs/openenv/client.py": ["Image.open(io.BytesIO(raw), formats=['PNG', 'JPEG'])"],
        "envs/base.py": ["Image.open(file, formats=['PNG'])"],
    }
    found = {}
    for package in ("envs", "benchmarks", "vldac", "pipelines", "perf", "extensions", "scripts"):
        for path in (REPOSITORY / package).rglob("*.py"):
            name = path.relative_to(REPOSITORY).as_posix()
            if name != "vldac/utils/pictures.py" and (calls := opens(path.read_text())):
                found[name] = calls
    assert found == allowed
    assert opens((REPOSITORY / "vldac/utils/pictures.py").read_text())


@pytest.mark.parametrize(
    "source",
    [
        "import PIL.Image\nPIL.Image.open(x)",
        "from PIL import Image as P\nP.open(x)",
        "from PIL.Image import open as o\no(x)",
        "from PIL import PngImagePlugin\nPngImagePlugin.PngImageFile(x)",
    ],
)
def test_a_call_is_found_in_whatever_form(source: str) -> None:
    assert len(opens(source)) == 1
