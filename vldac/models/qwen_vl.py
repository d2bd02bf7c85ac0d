"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: patches of any number, a grid for each picture, three-axis positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import ModelOutput

from vldac.models.adapter import ModelAdapter, Picture, stacked
from vldac.models.conversation import Image
from vldac.models.prompts import Prompt
from vldac.models.qwen_decoder import QwenDecoder

_DEEPSTACK = "deepstack_{}"  # Qwen3-VL hands visual features to inner layers of the language model as well


class QwenVLAdapter(ModelAdapter):
    """Adapter of the Qwen-VL models.

    A picture's tensors are `pixel_values` (patches, D) float32 and `image_grid_thw` (1, 3) int64, its grid of patches.
    A prompt's features are `pooled` (visual tokens, H) and, where the model takes them, `deepstack_0`, `deepstack_1`
    and so on, shaped alike.
    """

    image_token = "<|image_pad|>"  # noqa: S105  # a placeholder, not a password
    end_of_turn = "<|im_end|>"
    lora_targets = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    forbidden_tokens = (
        "<|endoftext|>",
        "<|im_start|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )

    def limit_pixels(self, smallest: int, largest: int) -> None:
        """Sets the image processor to scale pictures to between `smallest` and `largest` pixels."""
        self.image_processor.size = {"shortest_edge": smallest, "longest_edge": largest}

    def encode_pictures(self, images: Sequence[Image]) -> list[Picture]:
        """Encodes K >= 1 pictures, each (H, W, 3) uint8; they keep their size within the limits of the processor."""
        processed = self.image_processor(images=list(images), return_tensors="pt")
        grids: Tensor = processed["image_grid_thw"]
        patches = grids.prod(-1).tolist()
        pixels = processed["pixel_values"].split(patches)
        merged = self.image_processor.merge_size**2
        return [
            Picture(self.image_token * (count // merged), {"pixel_values": part, "image_grid_thw": grid})
            for count, part, grid in zip(patches, pixels, grids.split(1), strict=True)
        ]

    def position_inputs(self, prompts: Sequence[Prompt], input_ids: Tensor) -> dict[str, Tensor]:
        """Which tokens are visual, and on which grid each picture's lie."""
        return {
            "mm_token_type_ids": (input_ids == self.image_token_id).int(),
            "image_grid_thw": stacked(prompts, "image_grid_thw"),
        }

    def pixel_inputs(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """The patches of all pictures."""
        return {"pixel_values": stacked(prompts, "pixel_values")}

    def feature_inputs(self, features: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Features as the model's own vision tower returns them."""
        images: dict[str, Any] = {"pooler_output": tuple(each["pooled"] for each in features)}
        if layers := len(features[0]) - 1:
            images["deepstack_features"] = [
                tuple(each[_DEEPSTACK.format(layer)] for each in features) for layer in range(layers)
            ]
        return {"mm_encoder_outputs": {"image": ModelOutput(images)}}

    def vision_features(self, model: Any, prompts: Sequence[Prompt]) -> list[dict[str, Tensor]]:
        """Runs the vision tower once on the pictures of all prompts."""
        pixels, grids = (stacked(prompts, name).to(model.device) for name in ("pixel_values", "image_grid_thw"))
        output = self.trunk(model).get_image_features(pixels, grids, return_dict=True)
        sizes = self.visual_tokens(prompts)
        parts = {"pooled": torch.cat(tuple(output.pooler_output)).split(sizes)}
        for layer, each in enumerate(getattr(output, "deepstack_features", None) or ()):
            parts[_DEEPSTACK.format(layer)] = torch.cat(tuple(each)).split(sizes)
        return [{name: part[i].clone() for name, part in parts.items()} for i in range(len(prompts))]

    def decoder(self, model: Any, prompts: Sequence[Prompt], inputs: Mapping[str, Any], room: int) -> QwenDecoder:
        """A decoder of small models in float32."""
        trunk, ids = self.trunk(model), inputs["input_ids"]
        visual = ids == self.image_token_id
        embeddings, deepstack = trunk.get_input_embeddings()(ids), list[Tensor]()
        if "image_grid_thw" in inputs:
            images = inputs.get("mm_encoder_outputs", {}).get("image")
            if images is None:
                images = trunk.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True)
            embeddings[visual] = torch.cat(tuple(images.pooler_output))
            deepstack = [torch.cat(tuple(each)) for each in getattr(images, "deepstack_features", None) or ()]
        return QwenDecoder(
            trunk.language_model,
            embeddings,
            positions=self.positions(model, prompts, inputs),
            mask=inputs["attention_mask"].bool(),
            visual=visual,
            deepstack=deepstack,
            room=room,
        )

    def positions(self, model: Any, prompts: Sequence[Prompt], inputs: Mapping[str, Any]) -> Tensor:
        """Positions (3, B, P) of the tokens of each prompt, zeros where padded.

        transformers computes them token by token in Python; prompts of one layout have them in common.
        """
        trunk, (_, width) = self.trunk(model), inputs["input_ids"].shape
        known: dict[tuple[bytes, bytes], Tensor] = {}
        rows = []
        for prompt in prompts:
            visual = (prompt.input_ids == self.image_token_id).int()
            grids = prompt.pictures.get("image_grid_thw")
            layout = (visual.numpy().tobytes(), b"" if grids is None else grids.numpy().tobytes())
            if layout not in known:
                found, _ = trunk.get_rope_index(prompt.input_ids[None], visual[None], image_grid_thw=grids)
                known[layout] = F.pad(found, (width - found.shape[-1], 0))
            rows.append(known[layout])
        return torch.cat(rows, dim=1).to(model.device)


class Qwen3_5Adapter(QwenVLAdapter):
    """Adapter of Qwen3.5, most of whose layers have linear attention in place of keys and values."""

    lora_targets = (
        r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
        r"|in_proj_qkv|in_proj_z|in_proj_b|in_proj_a|out_proj)"
    )
