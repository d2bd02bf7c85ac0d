"""Which adapter serves which Hugging Face `model_type`.

A family from elsewhere is an entry point of the group `vldac.families` of an installed package, named like its
`model_type`; or it is named as "module:Class" by `model.family`; or a program registers it:

    from vldac.models import register
    register("my_vl", "my_package.my_vl:MyAdapter")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vldac.utils.registry import Registry, UnknownNameError

if TYPE_CHECKING:
    from vldac.models.adapter import ModelAdapter

_QWEN, _IDEFICS = "vldac.models.qwen_vl:QwenVLAdapter", "vldac.models.idefics3:Idefics3Adapter"
FAMILIES = Registry(
    "family",
    {
        "qwen2_vl": _QWEN,
        "qwen2_5_vl": _QWEN,
        "qwen3_vl": _QWEN,
        "qwen3_5": "vldac.models.qwen_vl:Qwen3_5Adapter",
        "idefics3": _IDEFICS,
        "smolvlm": _IDEFICS,
        "gemma3": "vldac.models.tiles:Gemma3Adapter",
        "internvl": "vldac.models.tiles:InternVLAdapter",
        "llava_onevision": "vldac.models.tiles:LlavaOnevisionAdapter",
    },
    group="vldac.families",
)


class UnsupportedFamilyError(UnknownNameError):
    """A model is of a family that has no adapter; the message names those that have."""


def register(model_type: str, entry_point: str) -> None:
    """Makes an adapter, "module:Class", serve a `model_type`.

    Raises:
        ValueError: another adapter serves it.
    """
    FAMILIES.register(model_type, entry_point)


def adapter_for(model_type: str, family: str | None = None) -> type[ModelAdapter]:
    """The adapter of a model.

    Args:
        model_type: of its Hugging Face configuration.
        family: another `model_type` or "module:Class", to be used in place of it.

    Raises:
        UnsupportedFamilyError: there is none.
        UnknownNameError: it cannot be imported.
    """
    name = family or model_type
    if ":" not in name and name not in FAMILIES.names():
        raise UnsupportedFamilyError(
            f"model type {name!r} is not supported; the families are {', '.join(FAMILIES.names())}, or name an adapter "
            "of your own with model.family: module:Class"
        )
    adapter: type[ModelAdapter] = FAMILIES.load(name)
    return adapter
