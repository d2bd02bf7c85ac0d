"""Vision-language models: prompts, sampling and one adapter for each model family.

The names below are for use from outside. Code of this project imports from the modules, so that a file's imports say
what it depends on.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vldac.models.registry import UnsupportedFamilyError, adapter_for, register

if TYPE_CHECKING:
    from vldac.models.adapter import ModelAdapter, Picture
    from vldac.models.conversation import Message
    from vldac.models.prompts import Prompt
    from vldac.models.vlm import VLM, Response, Scores

__all__ = [
    "VLM",
    "Message",
    "ModelAdapter",
    "Picture",
    "Prompt",
    "Response",
    "Scores",
    "UnsupportedFamilyError",
    "adapter_for",
    "register",
]
# Loaded when asked for: a conversation can be read without torch.
_MODULES = {
    "Message": "conversation",
    "ModelAdapter": "adapter",
    "Picture": "adapter",
    "Prompt": "prompts",
    "Response": "vlm",
    "Scores": "vlm",
    "VLM": "vlm",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
