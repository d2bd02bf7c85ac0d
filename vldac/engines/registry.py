"""Rollout engines by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vldac.utils.registry import Registry

if TYPE_CHECKING:
    from vldac.engines.base import Engine
    from vldac.models.vlm import VLM

#: Names for `rollout.engine`; each leads to a function from a `VLM` to an `Engine`.
ENGINES = Registry("engine", {"transformers": "vldac.engines.transformers:TransformersEngine"}, group="vldac.engines")


def make(name: str, vlm: VLM) -> Engine:
    """Starts an engine for a policy.

    Raises:
        UnknownNameError: there is none of this name, or it cannot be imported.
    """
    engine: Engine = ENGINES.load(name)(vlm)
    return engine
