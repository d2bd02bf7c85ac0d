"""Gemma 3, InternVL and LLaVA-OneVision: square tiles of one size, each of a fixed number of visual tokens.

A frame of a simulator is one tile. What the released processors do beyond it (pan and scan, crops, "anyres") is for
large pictures: it makes 13 tiles, some 3,300 tokens, of a frame of 80 x 60.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from vldac.models.adapter import ModelAdapter, Picture, stacked
from vldac.models.conversation import Image
from vldac.models.prompts import Prompt


class TileAdapter(ModelAdapter):
    """What these families share.

    A picture's tensors are `pixel_values` (tiles, 3, H, W) float32; a prompt's features are `pooled` (tokens, H).
    """

    lora_targets = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"

    def limit_pixels(self, smallest: int, largest: int) -> None:
        """Does nothing: every picture is scaled to one tile."""

    def encode_pictures(self, images: Sequence[Image]) -> list[Picture]:
        """Encodes K >= 1 pictures, each (H, W, 3) uint8, as one tile each."""
        tiles: Tensor = self.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        return [Picture(self.placeholder(1), {"pixel_values": tile}) for tile in tiles.split(1)]

    def placeholder(self, tiles: int) -> str:
        """The text that stands for a picture of so many tiles."""
        return self.image_token * (tiles * self.picture_tokens(self.config, 1, 1))

    def pixel_inputs(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """The tiles of all pictures."""
        return {"pixel_values": stacked(prompts, "pixel_values")}

    def feature_inputs(self, features: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Features as the model's own vision tower and projector return them."""
        return {"mm_encoder_outputs": {"image": ModelOutput(pooler_output=torch.cat([f["pooled"] for f in features]))}}

    def vision_features(self, model: Any, prompts: Sequence[Prompt]) -> list[dict[str, Tensor]]:
        """Runs vision tower and projector once on the pictures of all prompts."""
        inputs = {name: tensor.to(model.device) for name, tensor in self.pixel_inputs(prompts).items()}
        pooled = torch.cat(tuple(self.trunk(model).get_image_features(**inputs, return_dict=True).pooler_output))
        return [{"pooled": part.clone()} for part in pooled.split(self.visual_tokens(prompts))]


class Gemma3Adapter(TileAdapter):
    """Adapter of Gemma 3: the visual tokens of a picture attend to each other in both directions."""

    image_token = "<image_soft_token>"  # noqa: S105  # a placeholder, not a password
    picture_mark = "<start_of_image>"
    end_of_turn = "<end_of_turn>"
    marks = frozenset({image_token, picture_mark, "<end_of_image>", "<start_of_turn>"})

    @classmethod
    def picture_tokens(cls, config: Any, height: int, width: int) -> int:
        """A number of its own, whatever the size."""
        return int(config.mm_tokens_per_image)

    def placeholder(self, tiles: int) -> str:
        """The text that stands for a picture of so many tiles."""
        return f"\n\n{self.picture_mark}{super().placeholder(tiles)}<end_of_image>\n\n"

    def position_inputs(self, prompts: Sequence[Prompt], input_ids: Tensor) -> dict[str, Tensor]:
        """Which tokens are visual."""
        return {"token_type_ids": (input_ids == self.image_token_id).long()}


class InternVLAdapter(TileAdapter):
    """Adapter of InternVL, as transformers has it (the repositories whose names end in -hf)."""

    image_token = "<IMG_CONTEXT>"  # noqa: S105  # a placeholder, not a password
    end_of_turn = "<|im_end|>"
    marks = frozenset({image_token, "<img>", "</img>", "<video>", "<|im_start|>"})
    #: More tiles than one are followed by a small version of the whole picture.
    most_tiles = 1

    @classmethod
    def picture_tokens(cls, config: Any, height: int, width: int) -> int:
        """The patches of one tile, of which the connector makes one token of each square of several."""
        patches = math.prod(
            side // patch
            for side, patch in zip(config.vision_config.image_size, config.vision_config.patch_size, strict=True)
        )
        return int(patches * config.downsample_ratio**2)

    def limit_pixels(self, smallest: int, largest: int) -> None:
        """Cuts pictures into as many tiles as `largest` allows, up to the number of the released processor."""
        size = self.image_processor.size
        self.most_tiles = max(1, min(self.image_processor.max_patches, largest // (size["height"] * size["width"])))

    def encode_pictures(self, images: Sequence[Image]) -> list[Picture]:
        """Encodes K >= 1 pictures, each (H, W, 3) uint8."""
        cuts = {"crop_to_patches": self.most_tiles > 1, "min_patches": 1, "max_patches": self.most_tiles}
        processed = self.image_processor(images=list(images), return_tensors="pt", **cuts)
        counts = processed["num_patches"].tolist()
        return [
            Picture(self.placeholder(count), {"pixel_values": tiles})
            for count, tiles in zip(counts, processed["pixel_values"].split(counts), strict=True)
        ]

    def placeholder(self, tiles: int) -> str:
        """The text that stands for a picture of so many tiles."""
        return f"<img>{super().placeholder(tiles)}</img>"


class LlavaOnevisionAdapter(TileAdapter):
    """Adapter of LLaVA-OneVision: each picture is read as one of several, padded to a square and never cut."""

    image_token = "<image>"  # noqa: S105  # a placeholder, not a password
    end_of_turn = "<|im_end|>"
    marks = frozenset({image_token, "<video>", "<|im_start|>"})

    @classmethod
    def picture_tokens(cls, config: Any, height: int, width: int) -> int:
        """The patches of one tile, and a token that ends the picture."""
        return int((config.vision_config.image_size // config.vision_config.patch_size) ** 2 + 1)

    def encode_pictures(self, images: Sequence[Image]) -> list[Picture]:
        """Encodes K >= 1 pictures, each (H, W, 3) uint8, as one tile each."""
        several = [*images, images[0]]  # a lone picture would be cut
        tiles: Tensor = self.image_processor(images=[several], return_tensors="pt")["pixel_values"][:-1, 0]
        return [Picture(self.placeholder(1), {"pixel_values": tile}) for tile in tiles.split(1)]

    def pixel_inputs(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """The tiles of all pictures, said to be those of one prompt of several pictures."""
        pixels = stacked(prompts, "pixel_values")
        sizes = torch.tensor(pixels.shape[-2:]).expand(len(pixels), -1)
        return {"pixel_values": pixels, "image_sizes": sizes, "batch_num_images": torch.tensor([len(pixels) + 1])}

    def feature_inputs(self, features: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Features as the model's own vision tower and projector return them."""
        pooled = tuple(each["pooled"] for each in features)
        return {"mm_encoder_outputs": {"image": ModelOutput(pooler_output=pooled)}}
