"""The served model takes what it can answer and says why it refuses the rest."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from pipelines.tracking import pyfunc_model


class Actor:
    """Answers with the shape and the first pixel of what it is shown."""

    def at(self, _temperature: float) -> Actor:
        return self

    def act(self, observations: Sequence[Any], _seeds: Sequence[int]) -> list[Any]:
        (shown,) = observations
        frames = shown["frames"]
        text = f"{'x'.join(map(str, frames.shape))} {frames.dtype} {int(frames[0, 0, 0, 0])}"
        if "history" in shown:
            text += f" after {len(shown['history'])}"
        return [SimpleNamespace(action="go", parsed=None, text=text)]


def picture(width: int = 8, height: int = 4, kind: str = "PNG", mode: str = "RGB") -> str:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 200 if mode == "L" else (200, 0, 0)).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def ask(image: object, instruction: object = "go", **params: Any) -> str:
    model: Any = pyfunc_model.Policy()
    model._actor = Actor()
    table = pd.DataFrame([{"image": picture(), "instruction": "go"}, {"image": image, "instruction": instruction}])
    return str(model.predict(None, table, params)[1]["text"])


@pytest.mark.parametrize("none", [None, float("nan"), []])
def test_history_is_taken_where_there_is_some(none: object) -> None:
    model: Any = pyfunc_model.Policy()
    model._actor = Actor()
    rows = [{"image": picture(), "instruction": "go", "history": each} for each in (none, [["go", "left"]] * 2)]
    texts = [answer["text"] for answer in model.predict(None, pd.DataFrame(rows))]
    assert texts == ["1x4x8x3 uint8 200", "1x4x8x3 uint8 200 after 2"]
    with pytest.raises(MlflowException, match="row 1: history must be a list of pairs"):
        model.predict(None, pd.DataFrame([rows[0], {**rows[1], "history": "left"}]))


def broken_lines(text: str) -> str:
    return "\r\n".join(text[i : i + 20] for i in range(0, len(text), 20))


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (picture(), "1x4x8x3 uint8 200"),
        (picture(mode="L"), "1x4x8x3 uint8 200"),
        (picture(kind="JPEG", mode="L"), "1x4x8x3 uint8 200"),
        (broken_lines(picture()), "1x4x8x3 uint8 200"),
        (f"data:image/png;base64,{picture()}", "1x4x8x3 uint8 200"),
        (f"data:image/jpeg;charset=utf-8;base64,\n{picture(kind='JPEG', mode='L')}", "1x4x8x3 uint8 200"),
        ([picture(), picture()], "2x4x8x3 uint8 200"),
        (np.array([picture(), picture()], dtype=object), "2x4x8x3 uint8 200"),
    ],
)
def test_every_usual_form_of_a_picture_is_taken(image: object, text: str) -> None:
    assert ask(image) == text


def bomb() -> str:
    """A small file that says that it is a picture of 30 000 by 30 000 pixels."""
    data = bytearray(base64.b64decode(picture()))
    import struct  # noqa: PLC0415
    import zlib  # noqa: PLC0415

    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("image", "cause"),
    [
        (None, "image must be a picture file as base64 text"),
        (float("nan"), "image must be a picture file as base64 text"),
        ("", "image must be a picture file as base64 text"),
        ([], "image holds 0 pictures"),
        ([picture()] * 17, "image holds 17 pictures"),
        ([picture(), None], "image must be a picture file as base64 text"),
        ([picture(8, 4), picture(16, 4)], "must have one size, and these are 16x4, 8x4"),
        ("http://evil.com/a.png", "image is not base64 text"),
        ("päng", "image is not base64 text"),
        (base64.b64encode(b"GIF89a").decode(), "cannot be read as a picture"),
        (picture(200, 200)[:80], "cannot be read as a picture"),
        (picture(5000, 4000), "image has more than 16000000 pixels"),
        (bomb(), "image has more than 16000000 pixels"),
        ([picture(4000, 2000)] * 3, "image has more than 16000000 pixels in all"),
        ("A" * 40_000_004, "larger than 20000000 bytes"),
    ],
)
def test_other_pictures_are_refused_with_the_row_and_the_cause(image: object, cause: str) -> None:
    with pytest.raises(MlflowException, match=f"^row 1: .*{cause}") as refused:
        ask(image)
    assert refused.value.get_http_status_code() == 400


@pytest.mark.parametrize("instruction", [None, "", " \n", 5, float("nan"), "x" * 20_001])
def test_an_instruction_is_a_text_of_some_length(instruction: object) -> None:
    with pytest.raises(MlflowException, match=r"^row 1: instruction "):
        ask(picture(), instruction)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_is_not_negative(temperature: float) -> None:
    with pytest.raises(MlflowException, match=r"temperature is .*; it must be 0 or more"):
        ask(picture(), temperature=temperature)
