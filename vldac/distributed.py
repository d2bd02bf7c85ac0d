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
from vldac.utils.libraries import set_threads
from vldac.utils.processes import die_with_parent

#: How launchers name the number of ranks on this machine: torchrun, DeepSpeed, Open MPI, Slurm.
_LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE")


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

    def max(self, value: float) -> float:
        """The largest value over ranks."""
        total = torch.tensor(float(value), dtype=torch.float64, device=self.device)
        if self.world_size > 1:
            dist.all_reduce(total, op=dist.ReduceOp.MAX)
        return float(total)


@contextlib.contextmanager
def process_group(threads: int, timeout: float = 1800.0) -> Iterator[Runtime]:
    """Joins the ranks named by torch.distributed's environment variables; without them, a group of one.

    Args:
        threads: CPU threads of this rank; 0 shares the machine's cores out among its ranks.
        timeout: seconds that ranks wait for each other before the run ends as failed.
    """
    if os.environ.get(DIE_WITH_PARENT):
        die_with_parent()
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    set_threads(
        threads, next((int(os.environ[n]) for n in _LOCAL_SIZES if os.environ.get(n, "").isdigit()), world_size)
    )
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
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
