"""Rollout engines: what samples responses, behind `base.Engine`, by name in `registry`."""

from vldac.engines.registry import ENGINES, make

__all__ = ["ENGINES", "make"]
