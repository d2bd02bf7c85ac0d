"""Policy-gradient algorithms: one file each, behind `base.Algorithm`, by name in `registry`."""

from vldac.algorithms.registry import ALGORITHMS, make

__all__ = ["ALGORITHMS", "make"]
