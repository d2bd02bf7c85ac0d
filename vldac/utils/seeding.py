"""Seeds for the purposes of a run, and generators whose states a checkpoint holds."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *path: int | str) -> int:
    """A 63-bit seed for one purpose of a run, independent of those of its other purposes."""
    words = [seed]
    for part in path:
        words += [part] if isinstance(part, int) else list(part.encode())
    return int(np.random.SeedSequence(words).generate_state(2, np.uint64)[0] >> 1)


def generator_state(generator: torch.Generator) -> str:
    """A generator's state as text."""
    return base64.b64encode(generator.get_state().numpy().tobytes()).decode()


def restore_generator(generator: torch.Generator, state: str) -> None:
    """Puts a generator into the state that `generator_state` gave."""
    import torch  # noqa: PLC0415  # deriving a seed needs no model library

    generator.set_state(torch.frombuffer(bytearray(base64.b64decode(state)), dtype=torch.uint8))
