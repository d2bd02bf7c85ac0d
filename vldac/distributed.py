"""The ranks of a run: where a process stands among them, and what they tell each other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from vldac.launch import DIE_WITH_PARENT
from vldac.utils.errors import UserError
from vldac.utils.libraries import set_threads
from vldac.utils.processes import die_with_parent

#: How launchers name the number of ranks on this machine: torchrun, DeepSpeed, Open MPI, Slurm.
_LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE")


class DeviceError(UserError):
    """There are fewer GPUs than ranks; the message is one line."""


@dataclass(frozen=True)
class Runtime:
    """Where this process stands among the ranks of a run.

    Attributes:
        rank: 0 to world_size - 1.
        world_size: processes of the run.
        device: where this rank's weights are.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Waits for every rank."""
        if self.world_size > 1:
            dist.barrier()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over ranks, as a new tensor."""
        total = values.detach().clone().to(self.device)
        if self.world_size > 1:
            dist.all_reduce(total)
        return total.to(values.device)

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, which must be built of JSON's types, in their order."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def concatenated(self, values: torch.Tensor) -> torch.Tensor:
        """The rows (n,) of all ranks one after the other, (sum of n,), as many as each rank has."""
        if self.world_size == 1:
            return values
        sizes = self.gather(len(values))
        mine = torch.zeros(max(sizes), dtype=values.dtype, device=self.device)
        mine[: len(values)] = values
        rows = [torch.empty_like(mine) for _ in sizes]
        dist.all_gather(rows, mine)
        return torch.cat([row[:size] for row, size in zip(rows, sizes, strict=True)]).to(values.device)

    def max(self, value: float) -> float:
        """The largest value over ranks."""
        total = torch.tensor(float(value), dtype=torch.float64, device=self.device)
        if self.world_size > 1:
            dist.all_reduce(total, op=dist.ReduceOp.MAX)
        return float(total)


@contextlib.contextmanager
def process_group(threads: int, timeout: float = 1800.0, *, small: bool = True) -> Iterator[Runtime]:
    """Joins the ranks named by torch.distributed's environment variables; without them, a group of one.

    Args:
        threads: CPU threads of this rank; 0 shares the machine's cores out among its ranks.
        timeout: seconds that ranks wait for each other before the run ends as failed.
        small: whether the model is trained on the CPU where there are fewer GPUs than ranks.

    Raises:
        DeviceError: there are fewer GPUs than ranks, and the model is not small.
    """
    if os.environ.get(DIE_WITH_PARENT):
        die_with_parent()
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    found = (int(os.environ[name]) for name in _LOCAL_SIZES if os.environ.get(name, "").isdigit())
    here = next(found, world_size)
    set_threads(threads, here)
    device = _device(local_rank, here, small=small)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if world_size > 1:
        dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=timedelta(seconds=timeout))
    else:  # DeepSpeed needs a group and reads these; a group of one needs no port
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())
    try:
        yield Runtime(rank, world_size, device)
    finally:
        dist.destroy_process_group()


def _device(local_rank: int, ranks: int, *, small: bool) -> torch.device:
    """A GPU for each rank of this machine, or the CPU for all."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < gpus < ranks and not small:
        raise DeviceError(
            f"{ranks} ranks need a GPU each, and this machine has {gpus}; set deepspeed.ranks to {gpus}, or set "
            "CUDA_VISIBLE_DEVICES to nothing to train on the CPU"
        )
    if gpus < ranks:
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
