"""Where model families differ: placeholders, image tensors, token types, adapter targets.

Everything else in `vldac` treats a vision-language model as: token ids and images in, hidden states out. Adding a
family is one entry here.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Linear layers of the language model that carry an adapter; the vision tower stays as it is.
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


class UnsupportedFamilyError(ValueError):
    """A model is of a family that has no entry here; the message names those that have."""


@dataclass(frozen=True)
class Family:
    """What the code must know of one model family.

    Attributes:
        image_token: the text of one image placeholder, repeated once for each visual token of an image.
        forbidden_tokens: special tokens that a response can never hold: placeholders, which would make the next
            forward pass look for an image, and the chat format's own marks.
        end_of_turn: the token that ends a response. It is part of the response and of its log-probability.
    """

    image_token: str
    forbidden_tokens: tuple[str, ...]
    end_of_turn: str


_QWEN = Family(
    image_token="<|image_pad|>",  # noqa: S106  # a placeholder, not a password
    forbidden_tokens=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ),
    end_of_turn="<|im_end|>",
)

FAMILIES: dict[str, Family] = {"qwen2_vl": _QWEN, "qwen2_5_vl": _QWEN, "qwen3_vl": _QWEN}


def family_of(model_type: str) -> Family:
    """The family of a Hugging Face `model_type`.

    Raises:
        UnsupportedFamilyError: no entry for it.
    """
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise UnsupportedFamilyError(
            f"model type {model_type!r} is not supported; take one of {', '.join(FAMILIES)} (vldac/models/registry.py)"
        ) from None
