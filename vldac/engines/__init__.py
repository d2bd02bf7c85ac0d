"""Rollout engines: what samples responses, behind `base.Engine`, by name in `registry`."""

from vldac.engines.registry import ENGINES, check_options, make

__all__ = ["ENGINES", "check_options", "make"]
