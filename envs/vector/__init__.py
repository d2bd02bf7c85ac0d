"""Many simulators in a few worker processes, stepped together."""

from envs.seeds import EpisodeSeeds, evaluation_seeds, seeds_from, shared_seeds, training_seeds
from envs.vector.env import VectorEnv
from envs.vector.step import VectorStep

__all__ = [
    "EpisodeSeeds",
    "VectorEnv",
    "VectorStep",
    "evaluation_seeds",
    "seeds_from",
    "shared_seeds",
    "training_seeds",
]
