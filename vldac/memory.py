"""How much memory a rank has, and how much it took beside what was planned."""

from __future__ import annotations

import resource
import sys

import psutil
import torch

from vldac.distributed import Runtime

_MIB = 2**20
#: MiB below which libraries and buffers outweigh the model, so that a plan of the model says little.
_SMALL = 1024.0


def room(ranks: int) -> float:
    """MiB that each of `ranks` on this machine has: of a GPU where there is one, or else of the host's memory."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) / _MIB
    return float(psutil.virtual_memory().total) / _MIB / ranks


class PeakMemory:
    """The most memory that this process takes: of a GPU what torch has allocated, of the host all growth from here on.

    Args:
        runtime: this rank.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.noted, self.before = runtime, False, psutil.Process().memory_info().rss

    def mib(self) -> float:
        """MiB so far."""
        if self.runtime.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.runtime.device) / _MIB
        unit = 1 if sys.platform == "darwin" else 1024
        return max(0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - self.before) / _MIB

    def note(self, row: dict[str, float], planned: float) -> list[str]:
        """Adds the peak to the metrics of the first update that trains the policy; every rank must call it.

        Args:
            row: the metrics of an update.
            planned: MiB of one rank.

        Returns:
            Lines to be printed: none after any other update.
        """
        if self.noted or row["train/policy_frozen"]:
            return []
        self.noted = True
        row |= {"system/peak_memory_mib": self.runtime.max(self.mib()), "system/planned_memory_mib": planned}
        return compared(row["system/peak_memory_mib"], planned)


def compared(peak: float, planned: float) -> list[str]:
    """Lines that set the peak beside the plan, both in MiB; a warning where it is off by more than half of the plan."""
    lines = [
        f"memory of a rank: {peak:.0f} MiB at most up to its first update of the policy since it started, planned "
        f"{planned:.0f} MiB"
    ]
    if max(peak, planned) > _SMALL and abs(peak - planned) > planned / 2:
        lines.append(
            f"warning: the plan of memory was off by {abs(peak - planned) / planned:.0%}; go by the peak where you set "
            "train.micro_batch_size, train.token_budget or train.gradient_checkpointing"
        )
    return lines
