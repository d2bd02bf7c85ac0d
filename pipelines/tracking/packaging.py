"""A policy as an MLflow model: its files, the code that runs them, what they need, and the form of a question."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from pipelines.core import extensions
from pipelines.core.project import home, package_directory
from pipelines.tracking import exports
from vldac.config import Config

#: What a model needs beside its own files, at the versions that trained it.
REQUIREMENTS = (
    *("mlflow", "torch", "transformers", "peft", "safetensors", "tokenizers"),
    *("numpy", "pillow", "pydantic", "pyyaml", "gymnasium"),
)


def log_model(root: Path, config: Config, run_id: str, tags: Mapping[str, str], step: int) -> str:
    """Logs models/policy with models/base (of a hub model: its name and revision) and the code that runs both.

    Args:
        root: the project.
        config: whose code of one's own goes along.
        run_id: of the MLflow run that trained it.
        tags: of the logged model.
        step: environment steps that it was trained for.

    Returns:
        The id of the logged model.
    """
    import mlflow  # noqa: PLC0415
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema  # noqa: PLC0415
    from mlflow.types.schema import AnyType  # noqa: PLC0415

    extensions.make_importable(root, config)  # MLflow tries the model here
    code = [*(package_directory(root, name) for name in ("vldac", "envs")), *extensions.packaged(root, config)]
    text = DataType.string
    signature = ModelSignature(
        inputs=Schema(
            [ColSpec(AnyType(), "image"), ColSpec(text, "instruction"), ColSpec(AnyType(), "history", required=False)]
        ),
        outputs=Schema([ColSpec(text, "action", False), ColSpec(text, "thoughts", False), ColSpec(text, "text")]),
        params=ParamSchema([ParamSpec("temperature", DataType.double, 0.0), ParamSpec("seed", DataType.long, 0)]),
    )
    with (
        exports.dereferenced(root / "models/policy", home(root)) as policy,
        exports.dereferenced(root / "models/base", home(root)) as base,
        mlflow.start_run(run_id=run_id),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # MLflow tries the model on the example, and libraries chatter as they load it
        logged = mlflow.pyfunc.log_model(
            name=exports.model_name(config, step),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"policy": policy.resolve().as_uri(), "base": base.resolve().as_uri()},  # a path may have a "#"
            code_paths=[str(path) for path in code],
            pip_requirements=requirements(),
            signature=signature,
            input_example={"image": _blank_png(), "instruction": "Which action leads to the red box?"},
            tags=dict(tags),
            params={"environment_steps": str(step)},
            model_type="policy",
            step=step,
        )
    return str(logged.model_id)


def requirements() -> list[str]:
    """What a model needs, as an index has it: a build such as 2.13.0+cpu is on none, its version is."""
    return [f"{package}=={metadata.version(package).partition('+')[0]}" for package in REQUIREMENTS]


def _blank_png(width: int = 64, height: int = 48) -> str:
    """A gray picture as base64 text, to show the form of an input."""
    from PIL import Image  # noqa: PLC0415

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (128, 128, 128)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
