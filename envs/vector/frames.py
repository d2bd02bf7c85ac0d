"""The memory through which frames travel from the simulators' processes."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile

import numpy as np
from numpy.typing import NDArray


def anonymous_memory() -> int:
    """File descriptor of memory without a name: it is gone with the last process that maps it, however that ends.

    Named shared memory would outlive a killed parent or need a tracker process, and containers limit its size.
    """
    if sys.platform == "linux":
        return os.memfd_create("simulator-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def map_frames(memory: int, num_envs: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Maps the shared frames.

    Args:
        memory: file descriptor of the shared memory.
        num_envs: N, of the whole pool.
        shape: (K, H, W, 3).
    """
    return np.frombuffer(mmap.mmap(memory, 0), np.uint8).reshape(2, num_envs, *shape)
