"""Rollout engines by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vldac.utils.errors import UserError
from vldac.utils.registry import Registry

if TYPE_CHECKING:
    from vldac.engines.base import Engine
    from vldac.models.vlm import VLM

#: Names for `rollout.engine`; each leads to a function from a `VLM` to an `Engine`. One that has `Options`, a pydantic
#: model, is called with them too.
ENGINES = Registry(
    "engine",
    {"transformers": "vldac.engines.transformers:TransformersEngine", "vllm": "vldac.engines.vllm:VLLMEngine"},
    group="vldac.engines",
)


class EngineOptionsError(UserError, ValueError):
    """An option of an engine is missing, unknown or has a wrong value; one line for each."""


def check_options(name: str, options: Mapping[str, Any]) -> Any:
    """The typed options of an engine; None of one that has none.

    Raises:
        UnknownNameError: there is no such engine, or it cannot be imported.
        EngineOptionsError: an option is missing, unknown or has a wrong value.
    """
    from vldac.config.errors import explain  # noqa: PLC0415  # the configuration imports this module

    kind = getattr(ENGINES.load(name), "Options", None)
    if kind is None:
        if options:
            raise EngineOptionsError(f"rollout.engine {name} has no options; leave rollout.engine_options empty")
        return None
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        lines = (f"rollout.engine_options of {name}: {explain(one, kind)}" for one in error.errors())
        raise EngineOptionsError("\n".join(lines)) from None


def make(name: str, vlm: VLM, options: Mapping[str, Any] | None = None) -> Engine:
    """Starts an engine for a policy.

    Raises:
        UnknownNameError: there is none of this name, or it cannot be imported.
        EngineOptionsError: an option is wrong.
    """
    kind, typed = ENGINES.load(name), check_options(name, options or {})
    engine: Engine = kind(vlm) if typed is None else kind(vlm, typed)
    return engine
