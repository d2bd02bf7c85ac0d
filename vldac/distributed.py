"""The ranks of a run: where a process stands among them, and how they are started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from vldac.utils.libraries import set_threads
from vldac.utils.processes import die_with_parent

_DIE_WITH_PARENT = "VLDAC_DIE_WITH_PARENT"


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
def process_group(threads: int) -> Iterator[Runtime]:
    """Joins the ranks named by torch.distributed's environment variables; without them, a group of one.

    Args:
        threads: CPU threads of this rank; 0 shares the machine's cores out among its ranks.
    """
    if os.environ.get(_DIE_WITH_PARENT):
        die_with_parent()
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    set_threads(threads, int(os.environ.get("LOCAL_WORLD_SIZE", world_size)))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if world_size > 1:
        dist.init_process_group(backend, rank=rank, world_size=world_size)
    else:  # DeepSpeed needs a group and reads these; a group of one needs no port
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())
    try:
        yield Runtime(rank, world_size, device)
    finally:
        dist.destroy_process_group()


def launch_ranks(module: str, arguments: Sequence[str], ranks: int) -> int:
    """Runs `python -m module` as several ranks on this machine and returns the exit status."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, _DIE_WITH_PARENT: "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    process = subprocess.Popen(
        [*command, "-m", module, *arguments],
        env=environment,
        preexec_fn=die_with_parent,  # noqa: PLW1509  # one prctl call, nothing that could deadlock after fork
    )
    try:
        return process.wait()
    except BaseException:  # an interrupt: the ranks get it as well, and are waited for
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
