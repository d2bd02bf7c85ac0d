"""The learner's states in a checkpoint, loaded without running what a file may ask for.

DeepSpeed would unpickle them, and a pickle from elsewhere can run any program. Here only tensors, plain values and the
few classes that DeepSpeed itself writes are taken.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from vldac.checkpoint import CheckpointError

#: What the optimizer's state holds at ZeRO stages 1 to 3 besides tensors and plain values.
_WRITTEN = [LossScaler, ZeroStageEnum, fragment_address]


class SafeCheckpointEngine(TorchCheckpointEngine):
    """Writes as DeepSpeed does, and reads what is safe to read."""

    def load(self, path: str, map_location: Any = None) -> Any:
        """See `load`."""
        return load(path, map_location)


def load(path: str | Path, map_location: Any) -> Any:
    """Reads a file of tensors and plain values.

    Args:
        path: of a file that `torch.save` wrote.
        map_location: device of the tensors.

    Raises:
        CheckpointError: it holds something that the learner does not write.
    """
    try:
        with torch.serialization.safe_globals(_WRITTEN):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds something other than the state of a run, and is not loaded; it was not written by training, "
            "or by another version of DeepSpeed: delete its checkpoint and run the same command again"
        ) from error
