"""The critic: a value head with an optimizer and a gradient limit of its own, in float32, apart from the policy."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from vldac.config import TrainConfig
from vldac.distributed import Runtime
from vldac.utils.tensors import write_tensors
from vldac.value_head import ValueHead

_STATE = "critic.safetensors"
#: Beginnings of names in it: of the head's tensors, and of Adam's, by number of the parameter.
_HEAD, _ADAM = "head.", "adam."


class Critic:
    """Trains a `ValueHead`.

    Args:
        hidden_size: features of the hidden states that it reads.
        train: sizes, learning rate, coefficient and gradient limit.
        runtime: this rank.
    """

    def __init__(self, hidden_size: int, train: TrainConfig, runtime: Runtime) -> None:
        self.train, self.runtime = train, runtime
        self.head = ValueHead(hidden_size, train.value_hidden_sizes).to(runtime.device)
        self.optimizer = torch.optim.Adam(self.head.parameters(), lr=train.value_learning_rate)

    def backward(self, loss: Tensor, share: float) -> None:
        """Accumulates the gradient of a micro-batch that holds `share` of the steps of its batch."""
        (self.train.value_coefficient * loss * share).backward()

    def step(self) -> Tensor:
        """Averages the gradient over ranks, clips it and takes one optimizer step.

        Returns:
            The gradient's norm before clipping, ().
        """
        parameters = list(self.head.parameters())
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad = self.runtime.sum(parameter.grad) / self.runtime.world_size
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.train.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def save(self, directory: Path) -> None:
        """Writes weights and optimizer state."""
        moments = self.optimizer.state_dict()["state"]
        tensors = {f"{_HEAD}{name}": tensor for name, tensor in self.head.state_dict().items()}
        tensors |= {f"{_ADAM}{index}.{key}": value for index, each in moments.items() for key, value in each.items()}
        write_tensors({name: tensor.cpu() for name, tensor in tensors.items()}, directory / _STATE)

    def load(self, directory: Path) -> None:
        """Reads what `save` wrote."""
        tensors = load_file(directory / _STATE, device=str(self.runtime.device))
        head = {name.removeprefix(_HEAD): tensor for name, tensor in tensors.items() if name.startswith(_HEAD)}
        self.head.load_state_dict(head)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(_ADAM):
                index, _, key = name.removeprefix(_ADAM).partition(".")
                moments.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
