"""Where a supervised loop stands, on disk from time to time, so that a killed one goes on to the same result.

An hour of warm start is too long to lose. What is kept (`vldac.checkpoint`) is whole or absent: safetensors and JSON.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from vldac import checkpoint
from vldac.distributed import Runtime
from vldac.utils.tensors import write_tensors

#: Seconds between two states that are kept.
INTERVAL = 60.0
_TENSORS, _VALUES = "state.safetensors", "state.json"
_ALONE = Runtime(0, 1, torch.device("cpu"))
log = logging.getLogger(__name__)


class LoopState:
    """The weights, the optimizer and the random numbers of a loop.

    Args:
        directory: takes the newest state; None keeps nothing.
        identity: names all that decides the loop's result; a state of another one is not taken.
        modules: whose parameters change, by a name; a parameter of two modules counts for the first.
        optimizer: of them.
        rng: that the loop draws from.
    """

    def __init__(
        self,
        directory: Path | None,
        identity: str,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
    ) -> None:
        self._directory, self._identity, self._optimizer, self._rng = directory, identity, optimizer, rng
        named = {
            parameter: f"{module}.{name}"
            for module, of in reversed(list(modules.items()))
            for name, parameter in of.named_parameters()
        }
        self._parameters = {name: parameter for parameter, name in named.items()}
        self._kept_at = time.monotonic()

    def resume(self) -> tuple[int, dict[str, Any]]:
        """Puts everything into the state that was kept last.

        Returns:
            The updates made so far, and the values that were kept with it; 0 and none where nothing is kept.
        """
        if self._directory is None:
            return 0, {}
        found = checkpoint.newest(self._directory)
        if found is None:
            shutil.rmtree(self._directory, ignore_errors=True)  # a damaged one, which may count as newer than the next
            return 0, {}
        values = json.loads((found / _VALUES).read_text(encoding="utf-8"))
        tensors = load_file(found / _TENSORS)
        if values["identity"] != self._identity or not self._parameters.keys() <= tensors.keys():
            log.warning("%s is of other parameters or other code, and is not gone on with", found)
            shutil.rmtree(found.parent)  # of two states the one with more updates counts as the newer
            return 0, {}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name in self._parameters:
                with torch.no_grad():
                    self._parameters[name].copy_(tensor)
            else:
                _, number, key = name.split("/")
                moments.setdefault(int(number), {})[key] = tensor
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": moments})
        self._rng.bit_generator.state = values["rng"]
        return int(values["updates"]), values["rest"]

    def keep(self, updates: int, rest: Mapping[str, Any], *, now: bool = False) -> None:
        """Writes the state if `INTERVAL` has passed since the last time.

        Args:
            updates: made so far.
            rest: of the loop, as JSON.
            now: whatever time has passed.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._directory is None or not (now or time.monotonic() - self._kept_at >= INTERVAL):
            return
        tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in self._parameters.items()}
        for number, of in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{key}": tensor.detach().cpu() for key, tensor in of.items()}
        values = {
            "identity": self._identity,
            "updates": updates,
            "rng": self._rng.bit_generator.state,
            "rest": dict(rest),
        }

        def write(directory: Path) -> None:
            write_tensors(tensors, directory / _TENSORS)
            (directory / _VALUES).write_text(json.dumps(values), encoding="utf-8")

        checkpoint.save(self._directory, updates, write, keep=1, runtime=_ALONE)
        self._kept_at = time.monotonic()
