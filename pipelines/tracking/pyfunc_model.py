"""The registered policy as an MLflow pyfunc: pictures and an instruction in, an action out.

MLflow stores this file itself ("models from code") and runs it where the model is loaded, beside the copies of `vldac`
and `envs` that were logged with it; nothing is pickled.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

#: What one row may hold; a picture may be much larger than its file.
MAX_FRAMES, MAX_CHARACTERS, MAX_BYTES, MAX_PIXELS = 16, 20_000, 20_000_000, 16_000_000
_DATA_URL = re.compile(r"data:image/[\w.+-]+(;[\w=.-]+)*;base64,", re.IGNORECASE)


class Policy(PythonModel):
    """A trained policy behind MLflow's interface.

    Input, one row an observation: `image`, a picture file (PNG, JPEG, WebP, GIF, BMP) as base64 text or as a data URL,
    or for a model that is shown several frames a list of them of one size, oldest first; and `instruction`, the whole
    prompt in the words of the environment.

    Parameters: `temperature` (0 takes the likeliest token) and `seed`.

    What cannot be answered is refused as a whole, with the row and the cause.

    Output, one record a row: `action` (None where the answer names none), `thoughts` and the whole `text`.
    """

    def load_context(self, context: Any) -> None:
        """Loads the weights, which are safetensors."""
        from vldac.acting import load_actor  # noqa: PLC0415  # torch is only needed to answer
        from vldac.utils.libraries import quiet  # noqa: PLC0415

        quiet()
        self._actor = load_actor(context.artifacts["policy"], context.artifacts["base"])

    # MLflow reads the type of `model_input`: a table leaves the schema to the signature that was logged.
    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answers every row. See the class."""
        params = params or {}
        temperature, seed = float(params.get("temperature", 0.0)), int(params.get("seed", 0))
        if not (math.isfinite(temperature) and temperature >= 0):
            raise _refusal(f"temperature is {temperature}; it must be 0 or more")
        observations: list[Any] = []
        for number, row in enumerate(model_input.to_dict(orient="records")):
            try:
                observations.append({"frames": _frames(row.get("image")), "prompt": _prompt(row.get("instruction"))})
            except ValueError as error:
                raise _refusal(f"row {number}: {error}") from None
        from vldac.utils.seeding import derive_seed  # noqa: PLC0415  # as in `load_context`

        actor = self._actor.at(temperature)
        answers = []
        for number, observation in enumerate(observations):
            (decision,) = actor.act([observation], [derive_seed(seed, number)])
            answers.append(
                {
                    "action": decision.action,
                    "thoughts": decision.parsed.thoughts if decision.parsed else None,
                    "text": decision.text,
                }
            )
        return answers


def _refusal(cause: str) -> MlflowException:
    """What MLflow's server answers with status 400."""
    return MlflowException(cause, error_code=INVALID_PARAMETER_VALUE)


def _prompt(instruction: object) -> str:
    if not isinstance(instruction, str) or not instruction.strip():
        raise ValueError("instruction must be a text that is not empty")
    if len(instruction) > MAX_CHARACTERS:
        raise ValueError(f"instruction has {len(instruction)} characters; at most {MAX_CHARACTERS} are taken")
    return instruction


def _frames(image: object) -> NDArray[np.uint8]:
    """(K, H, W, 3) uint8 of one picture or several.

    Raises:
        ValueError: there is none, one cannot be read or is too large, or their sizes differ.
    """
    texts = list(image) if isinstance(image, list | tuple | np.ndarray) else [image]
    if not 1 <= len(texts) <= MAX_FRAMES:
        raise ValueError(f"image holds {len(texts)} pictures; 1 to {MAX_FRAMES} are taken")
    frames = [_frame(text) for text in texts]
    sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
    if len(sizes) > 1:
        raise ValueError(f"the pictures of one row must have one size, and these are {', '.join(sizes)}")
    return np.stack(frames)


def _frame(text: object) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a picture as text."""
    from vldac.utils.pictures import PictureError, read_picture  # noqa: PLC0415  # as in `load_context`

    if not isinstance(text, str) or not text.strip():
        raise ValueError("image must be a picture file as base64 text, or a list of them")
    if len(text) > 2 * MAX_BYTES:  # base64 takes 4 characters for 3 bytes
        raise ValueError(f"a picture is larger than {MAX_BYTES} bytes")
    encoded = "".join(_DATA_URL.sub("", text.strip(), count=1).split())
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):  # a letter beyond ASCII is a ValueError
        raise ValueError("image is not base64 text") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"a picture is larger than {MAX_BYTES} bytes")
    try:
        frame = read_picture(data, "image")
    except PictureError as error:
        raise ValueError(str(error)) from None
    if frame.shape[0] * frame.shape[1] > MAX_PIXELS:
        raise ValueError(f"a picture of {frame.shape[1]}x{frame.shape[0]} has more than {MAX_PIXELS} pixels")
    return frame


mlflow.models.set_model(Policy())
