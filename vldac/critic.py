"""The critic: a value head with an optimizer and a gradient limit of its own, in float32, apart from the policy."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vldac import states
from vldac.config import TrainConfig
from vldac.distributed import Runtime
from vldac.value_head import ValueHead

_STATE = "critic.pt"


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

    def backward(self, loss: Tensor, parts: int) -> None:
        """Accumulates the gradient of one of `parts` equal micro-batches."""
        (self.train.value_coefficient * loss / parts).backward()

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
        torch.save({"value_head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}, directory / _STATE)

    def load(self, directory: Path) -> None:
        """Reads what `save` wrote."""
        state = states.load(directory / _STATE, self.runtime.device)
        self.head.load_state_dict(state["value_head"])
        self.optimizer.load_state_dict(state["optimizer"])
