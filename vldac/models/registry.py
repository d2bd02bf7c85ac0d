"""Which adapter serves which Hugging Face `model_type`.

A family of this package is one line of `_built_in`; one from elsewhere is registered before its model is loaded:

    from vldac.models import register
    register("my_vl", MyAdapter)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vldac.models.adapter import ModelAdapter

_registered: dict[str, type[ModelAdapter]] = {}


class UnsupportedFamilyError(ValueError):
    """A model is of a family that has no adapter; the message names those that have."""


def register(model_type: str, adapter_class: type[ModelAdapter]) -> None:
    """Makes an adapter serve a `model_type`, in place of the one that served it before."""
    _registered[model_type] = adapter_class


def adapter_for(model_type: str) -> type[ModelAdapter]:
    """The adapter of a Hugging Face `model_type`.

    Raises:
        UnsupportedFamilyError: none is registered.
    """
    known = _built_in() | _registered
    try:
        return known[model_type]
    except KeyError:
        raise UnsupportedFamilyError(
            f"model type {model_type!r} is not supported; take one of {', '.join(known)}, or register an adapter for "
            "it (vldac/models/registry.py)"
        ) from None


def _built_in() -> dict[str, type[ModelAdapter]]:
    # Imported here: the error class and `register` are of use where no model library is loaded.
    from vldac.models.idefics3 import Idefics3Adapter  # noqa: PLC0415  # as above
    from vldac.models.qwen_vl import QwenVLAdapter  # noqa: PLC0415  # as above

    return {
        "qwen2_vl": QwenVLAdapter,
        "qwen2_5_vl": QwenVLAdapter,
        "qwen3_vl": QwenVLAdapter,
        "idefics3": Idefics3Adapter,
        "smolvlm": Idefics3Adapter,
    }
