"""Which seed each episode of each simulator starts with. Training and evaluation never share one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from envs.base import EVALUATION_SEEDS, TRAINING_SEEDS

#: From (simulator, episode), both counted from 0, to the seed of the episode; None: the simulator stops.
EpisodeSeeds = Callable[[int, int], int | None]


def training_seeds(seed: int) -> EpisodeSeeds:
    """Endless seeds out of `TRAINING_SEEDS`, independent between simulators and between runs of another seed.

    Args:
        seed: of the run, at least 0.
    """

    @lru_cache(maxsize=4096)  # a pool asks at every step what would come next
    def of_episode(simulator: int, episode: int) -> int:
        sequence = np.random.SeedSequence(seed, spawn_key=(0, simulator, episode))
        return TRAINING_SEEDS[int(sequence.generate_state(1)[0]) % len(TRAINING_SEEDS)]

    return of_episode


def shared_seeds(seeds: EpisodeSeeds, size: int) -> EpisodeSeeds:
    """Gives `size` neighboring simulators the same seeds, so that each of their episodes starts alike."""
    return lambda simulator, episode: seeds(simulator // size, episode)


def seeds_from(seeds: EpisodeSeeds, first: int) -> EpisodeSeeds:
    """The seeds of the simulators from number `first` on, for a pool that holds those only."""
    return lambda simulator, episode: seeds(first + simulator, episode)


def evaluation_seeds(episodes: int, num_envs: int) -> EpisodeSeeds:
    """The first `episodes` of `EVALUATION_SEEDS`, dealt in turn: simulator i runs number i, i + num_envs, and so on.

    Every simulator runs a fixed list, so which episodes are run does not depend on which of them finish first.
    """

    def of_episode(simulator: int, episode: int) -> int | None:
        index = simulator + episode * num_envs
        return EVALUATION_SEEDS[index] if index < episodes else None

    return of_episode
