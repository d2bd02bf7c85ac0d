"""The registered policy as an MLflow pyfunc: pictures and an instruction in, an action out.

MLflow stores this file itself ("models from code") and runs it where the model is loaded, beside the copies of `vldac`
and `envs` that were logged with it; nothing is pickled.
"""

from __future__ import annotations

import math
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel


class Policy(PythonModel):
    """A trained policy behind MLflow's interface.

    Input, one row an observation: `image`, a picture file (PNG, JPEG, WebP, GIF, BMP) as base64 text or as a data URL,
    or for a model that is shown several frames a list of them of one size, oldest first; `instruction`, the whole
    prompt in the words of the environment; and, for a model that was trained with `env.history`, `history`, a list of
    pairs of an earlier instruction and its answer's `text`, oldest first.

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
        from vldac.observations import read_observation  # noqa: PLC0415  # as in `load_context`

        observations: list[Any] = []
        for number, row in enumerate(model_input.to_dict(orient="records")):
            try:
                observations.append(
                    read_observation(row.get("image"), row.get("instruction"), _given(row.get("history")))
                )
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


def _given(value: Any) -> Any:
    """A value of a table, in which NaN stands for none."""
    return () if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _refusal(cause: str) -> MlflowException:
    """What MLflow's server answers with status 400."""
    return MlflowException(cause, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(Policy())
