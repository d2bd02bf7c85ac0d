"""The registered policy as an MLflow pyfunc: pictures and an instruction in, an action out.

MLflow stores this file itself ("models from code") and runs it where the model is loaded, beside the copies of `vldac`
and `envs` that were logged with it; nothing is pickled.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray


class Policy(PythonModel):
    """A trained policy behind MLflow's interface.

    Input, one row an observation: `image`, a picture file (such as a PNG) as base64 text, or a list of them, oldest
    first, for a model that is shown several frames; and `instruction`, the whole prompt as the environment words it.

    Parameters: `temperature` (0 takes the likeliest token) and `seed`.

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
        actor = self._actor.sampling(float(params.get("temperature", 0.0)), int(params.get("seed", 0)))
        answers = []
        for row in model_input.to_dict(orient="records"):
            (decision,) = actor.act([{"frames": _frames(row["image"]), "prompt": row["instruction"]}])
            answers.append(
                {
                    "action": decision.action,
                    "thoughts": decision.parsed.thoughts if decision.parsed else None,
                    "text": decision.text,
                }
            )
        return answers


def _frames(image: str | list[str]) -> NDArray[np.uint8]:
    """(K, H, W, 3) uint8 of one picture in base64 or several."""
    from vldac.utils.pictures import read_base64  # noqa: PLC0415  # as in `load_context`

    texts = [image] if isinstance(image, str) else list(image)
    return np.stack([read_base64(text, "image") for text in texts])


mlflow.models.set_model(Policy())
