"""DeepSpeed as it is used here, which is its ZeRO engine alone: `from vldac.utils.zero import deepspeed`."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["deepspeed"]


def _load() -> Any:
    """Imports DeepSpeed without MLflow, which its autotuner would import: a quarter of the start of a training."""
    unwanted = "mlflow" not in sys.modules
    if unwanted:
        sys.modules["mlflow"] = None  # type: ignore[assignment]  # which says that there is no such module
    try:
        import deepspeed  # noqa: PLC0415  # within what keeps MLflow away
    finally:
        if unwanted:
            del sys.modules["mlflow"]
    # Gloo serves CPU ranks without this kernel, whose compilation needs g++ and most of a minute. DeepSpeed asks before
    # it partitions the first weights.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


deepspeed = _load()
