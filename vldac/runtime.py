"""The process a run lives in: rank, device, threads, randomness, and how its ranks are started."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

_DIE_WITH_PARENT = "VLDAC_DIE_WITH_PARENT"
_PR_SET_PDEATHSIG = 1


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

    def max(self, value: float) -> float:
        """The largest value over ranks."""
        total = torch.tensor(float(value), dtype=torch.float64, device=self.device)
        if self.world_size > 1:
            dist.all_reduce(total, op=dist.ReduceOp.MAX)
        return float(total)


def quiet() -> None:
    """Keeps libraries' start-up chatter off the terminal; warnings about a run itself stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")  # DeepSpeed reads every attribute
    warnings.filterwarnings("ignore", message=".*torch.distributed.* is deprecated.*")  # DeepSpeed calls them
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415  # reads its variables at import

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def set_threads(threads: int, ranks: int = 1) -> int:
    """Fixes the number of CPU threads of this process, on which rounding depends; 0 shares the cores out."""
    cores = len(os.sched_getaffinity(0))
    count = threads or max(1, cores // ranks)
    torch.set_num_threads(count)
    return count


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


def die_with_parent() -> None:
    """Asks Linux to kill this process when the one that started it ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def derive_seed(seed: int, *path: int | str) -> int:
    """A 63-bit seed for one purpose of a run, independent of those of its other purposes."""
    words = [seed]
    for part in path:
        words += [part] if isinstance(part, int) else list(part.encode())
    return int(np.random.SeedSequence(words).generate_state(2, np.uint64)[0] >> 1)


def fail_readably(main: Callable[[], int], expected: tuple[type[Exception], ...] = ()) -> int:
    """Runs a command's main function; a failure that a user can mend becomes one line, `error: cause; cure`.

    Anything else keeps its traceback: it is a defect.

    Args:
        main: returns the exit status.
        expected: exceptions of the caller's own that are also a user's to mend.
    """
    from envs.base import SimulatorError  # noqa: PLC0415  # keeps this module free of the simulators for its other users
    from vldac.checkpoint import CheckpointError  # noqa: PLC0415  # it imports this module
    from vldac.config import ConfigError  # noqa: PLC0415

    readable: tuple[type[Exception], ...] = (ConfigError, SimulatorError, CheckpointError, OSError, *expected)
    try:
        return main()
    except readable as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
