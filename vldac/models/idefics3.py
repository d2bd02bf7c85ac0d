"""Idefics3 and SmolVLM: each picture is cut into square tiles, followed by a small version of the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput

from vldac.models.adapter import ModelAdapter, Picture, stacked
from vldac.models.conversation import Image
from vldac.models.prompts import Prompt

_AROUND, _GLOBAL = "<fake_token_around_image>", "<global-img>"
_MOST_ROWS = 6  # the released tokenizers have a mark for each tile of up to 6 x 6


def _tile(row: int, column: int) -> str:
    return f"<row_{row}_col_{column}>"


_TILES = [_tile(1 + index // _MOST_ROWS, 1 + index % _MOST_ROWS) for index in range(_MOST_ROWS**2)]


class Idefics3Adapter(ModelAdapter):
    """Adapter of Idefics3 and SmolVLM.

    A picture's tensors are `pixel_values` (tiles, 3, H, W) float32 and `pixel_attention_mask` (tiles, H, W) bool. A
    prompt's features are `pooled` (visual tokens, H).
    """

    image_token = "<image>"  # noqa: S105  # a placeholder, not a password
    end_of_turn = "<end_of_utterance>"
    marks = frozenset({image_token, _AROUND, _GLOBAL, *_TILES})
    lora_targets = r".*text_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"

    def limit_pixels(self, smallest: int, largest: int) -> None:
        """Sets the longest edge that pictures are scaled to: as many whole tiles as `largest` allows, at least one.

        Pictures are always scaled to it, so that `smallest` has no effect.
        """
        tile = self.image_processor.max_image_size["longest_edge"]
        self.image_processor.size = {"longest_edge": max(1, math.isqrt(largest) // tile) * tile}

    def encode_pictures(self, images: Sequence[Image]) -> list[Picture]:
        """Encodes K >= 1 pictures, each (H, W, 3) uint8."""
        return [self._encode_picture(image) for image in images]

    def _encode_picture(self, image: Image) -> Picture:
        # One by one: together, all would be padded to the most tiles that one of them has.
        processed = self.image_processor(images=[[image]], return_tensors="pt", return_row_col_info=True)
        pixels, mask = processed["pixel_values"][0], processed["pixel_attention_mask"][0].bool()
        patches = math.prod(side // self.config.vision_config.patch_size for side in pixels.shape[-2:])
        tokens = self.image_token * (patches // self.config.scale_factor**2)
        placeholder = "".join(
            "".join(_AROUND + _tile(row + 1, column + 1) + tokens for column in range(processed["cols"][0][0])) + "\n"
            for row in range(processed["rows"][0][0])
        )
        placeholder += "\n" if placeholder else ""
        placeholder += _AROUND + _GLOBAL + tokens + _AROUND
        return Picture(placeholder, {"pixel_values": pixels, "pixel_attention_mask": mask})

    def pixel_inputs(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """All tiles in a row, (1, tiles, 3, H, W): the model takes them in order, whichever prompt they belong to."""
        return {name: stacked(prompts, name)[None] for name in ("pixel_values", "pixel_attention_mask")}

    def feature_inputs(self, features: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Features as the model's own vision tower and connector return them."""
        pooled = tuple(each["pooled"] for each in features)
        return {"mm_encoder_outputs": {"image": ModelOutput(pooler_output=pooled)}}

    def vision_features(self, model: Any, prompts: Sequence[Prompt]) -> list[dict[str, Tensor]]:
        """Runs vision tower and connector once on the pictures of all prompts."""
        inputs = {name: tensor.to(model.device) for name, tensor in self.pixel_inputs(prompts).items()}
        (pooled,) = self.trunk(model).get_image_features(**inputs, return_dict=True).pooler_output
        return [{"pooled": part.clone()} for part in pooled.split(self.visual_tokens(prompts))]
