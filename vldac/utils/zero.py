"""DeepSpeed as it is used here, which is its ZeRO engine alone: `from vldac.utils.zero import deepspeed`."""

from __future__ import annotations

import sys
from typing import Any

import torch

__all__ = ["deepspeed", "work_on"]


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
    # (The name is set, and not an entry of what is there: to read that, DeepSpeed would try to build every kernel.)
    vars(deepspeed.ops)["__compatible_ops__"] = {"deepspeed_shm_comm": False}
    return deepspeed


def work_on(device: torch.device) -> None:
    """Has DeepSpeed work on the CPU where a run does: by itself, it takes a GPU wherever it sees one."""
    from deepspeed import accelerator  # noqa: PLC0415  # after `_load`

    if device.type == "cpu" and accelerator.get_accelerator().device_name() != "cpu":
        from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator  # noqa: PLC0415  # the one that was not chosen

        accelerator.set_accelerator(CPU_Accelerator())


deepspeed = _load()
