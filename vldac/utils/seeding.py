"""Seeds for the purposes of a run: nothing random has a state that a checkpoint would have to hold."""

from __future__ import annotations

import numpy as np


def derive_seed(seed: int, *path: int | str) -> int:
    """A 63-bit seed for one purpose of a run, independent of those of its other purposes."""
    words = [seed]
    for part in path:
        words += [part] if isinstance(part, int) else list(part.encode())
    return int(np.random.SeedSequence(words).generate_state(2, np.uint64)[0] >> 1)
