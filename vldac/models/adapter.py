"""What one model family decides: how it encodes pictures, what its model takes, and which tokens it must not write.

Everything else in `vldac` treats a vision-language model as: token ids and pictures in, hidden states out.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer
from transformers.utils import cached_file

from vldac.models.cached_decoder import counted
from vldac.models.conversation import Image
from vldac.models.prompts import Prompt
from vldac.parsing import THINKING

_TEMPLATE = "chat_template.json"


@dataclass(frozen=True)
class Picture:
    """One encoded picture.

    Attributes:
        placeholder: the text that stands for it in a prompt, `image_token` once for each visual token.
        tensors: what the vision tower reads, by name; over the pictures of a prompt, each name's tensors are
            concatenated along their first dimension.
    """

    placeholder: str
    tensors: Mapping[str, Tensor]


class NoDecoderError(Exception):
    """A family has no decoder of its own for a model as it stands; the message says why."""


class Decoder(Protocol):
    """A batch of prompts that have been read, and of responses that are being written.

    Attributes:
        states: (B, H), last-layer hidden states at the last token of each prompt.
    """

    states: Tensor

    def step(self, tokens: Tensor) -> Tensor:
        """Reads one more token of each row, (B,) int64; returns its last-layer hidden states, (B, H)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Goes on with some of the rows only, (B,) bool."""
        ...


class ModelAdapter(ABC):
    """The seam between one family's Hugging Face classes and the rest of the code.

    A family is a subclass, registered under its `model_type` (`vldac.models.registry`).

    Args:
        config: of the Hugging Face model.
        tokenizer: of the model, with its chat template.
        image_processor: of the model.

    Attributes:
        image_token: the text of one visual token.
        picture_mark: what the chat template writes for a picture; "" if it is `image_token`, as in most families.
        marks: tokens of the family's format that not every release of its tokenizer treats as special.
        end_of_turn: the token that ends a response. It is part of the response and of its log-probability.
        lora_targets: regular expression that matches, as a whole, the names of the linear layers that carry a LoRA
            adapter: those of the language model; the vision tower stays as it is.
        image_token_id: the id of `image_token`.
    """

    #: Names of picture tensors that nothing reads once visual features are known.
    pixel_names: ClassVar[frozenset[str]] = frozenset({"pixel_values", "pixel_attention_mask"})

    image_token: ClassVar[str]
    picture_mark: ClassVar[str] = ""
    end_of_turn: ClassVar[str]
    marks: ClassVar[frozenset[str]] = frozenset()
    lora_targets: ClassVar[str]

    def __init__(self, config: Any, tokenizer: Any, image_processor: Any) -> None:
        self.config, self.tokenizer, self.image_processor = config, tokenizer, image_processor
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(self.image_token)

    @classmethod
    def load_tokenizer(cls, base: str | Path, revision: str | None) -> Any:
        """Loads the tokenizer of a directory or hub id, with its chat template.

        Raises:
            OSError: nothing is there.
        """
        tokenizer = AutoTokenizer.from_pretrained(base, revision=revision, trust_remote_code=False)
        if tokenizer.chat_template is None:  # some released models have it beside the tokenizer, for their processor
            found = cached_file(base, _TEMPLATE, revision=revision, _raise_exceptions_for_missing_entries=False)
            if found is not None:
                tokenizer.chat_template = json.loads(Path(found).read_text(encoding="utf-8"))["chat_template"]
        return tokenizer

    @classmethod
    def load_image_processor(cls, base: str | Path, revision: str | None) -> Any:
        """Loads the image processor of a directory or hub id.

        It is loaded by itself: the processors of transformers that hold it and the tokenizer need torchvision for
        their video half.

        Raises:
            OSError: nothing is there.
        """
        return AutoImageProcessor.from_pretrained(base, revision=revision, backend="pil", trust_remote_code=False)

    @property
    def forbidden_tokens(self) -> tuple[str, ...]:
        """Tokens of the vocabulary that a response can never hold.

        They are the placeholders, which would make the next forward pass look for an image, and the chat format's own
        marks, `end_of_turn` and those of thinking excepted: `marks`, and whatever the tokenizer treats as special.
        """
        special = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        present = self.marks & self.tokenizer.get_vocab().keys()
        return tuple(sorted((special | present) - {self.end_of_turn, *THINKING}))

    @classmethod
    def picture_tokens(cls, config: Any, height: int, width: int) -> int:
        """About how many visual tokens a picture of this size has, before the model is loaded.

        Args:
            config: of the Hugging Face model.
            height: of the picture, in pixels.
            width: of the picture, in pixels.
        """
        cell = config.vision_config.patch_size * getattr(config.vision_config, "spatial_merge_size", 1)
        return math.ceil(width / cell) * math.ceil(height / cell)

    @abstractmethod
    def limit_pixels(self, smallest: int, largest: int) -> None:
        """Sets the image processor to scale pictures to between `smallest` and `largest` pixels.

        A family that scales pictures to sizes of its own comes as close as it can.
        """

    @abstractmethod
    def encode_pictures(self, images: Sequence[Image]) -> list[Picture]:
        """Encodes K >= 1 pictures, each (H, W, 3) uint8, and each by itself: the others change nothing of it."""

    @abstractmethod
    def pixel_inputs(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """The model's inputs from which it computes visual features itself.

        Args:
            prompts: those of a batch that show pictures, in order; at least one.
        """

    @abstractmethod
    def feature_inputs(self, features: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """The model's inputs in place of `pixel_inputs`: visual features that are known already.

        Args:
            features: of each prompt of a batch, from `vision_features`.
        """

    def position_inputs(self, prompts: Sequence[Prompt], input_ids: Tensor) -> dict[str, Tensor]:
        """What the model needs beside token ids to place visual tokens; nothing in most families.

        Args:
            prompts: those of the batch that show pictures, in order; at least one.
            input_ids: (B, T) int64 of the whole batch, padded, responses included.
        """
        return {}

    @abstractmethod
    def vision_features(self, model: Any, prompts: Sequence[Prompt]) -> list[dict[str, Tensor]]:
        """Runs the vision tower on prompts that all show pictures.

        Args:
            model: the Hugging Face model.
            prompts: B prompts.

        Returns:
            For each prompt, features by name; every tensor is on the model's device and owns its memory.
        """

    def model_inputs(self, prompts: Sequence[Prompt], input_ids: Tensor) -> dict[str, Any]:
        """Everything that the model takes for a batch beside token ids and attention mask.

        Args:
            prompts: B prompts.
            input_ids: (B, T) int64, padded, responses included.
        """
        shown = [prompt for prompt in prompts if prompt.pictures]
        if not shown:
            return {}
        features = [prompt.features for prompt in prompts if prompt.features is not None]
        known = len(features) == len(prompts)
        return self.position_inputs(shown, input_ids) | (
            self.feature_inputs(features) if known else self.pixel_inputs(shown)
        )

    def visual_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """How many placeholders each prompt holds."""
        return [int((prompt.input_ids == self.image_token_id).sum()) for prompt in prompts]

    def decoder(self, model: Any, prompts: Sequence[Prompt], inputs: Mapping[str, Any], room: int) -> Decoder:
        """Reads prompts with a faster forward pass than transformers', where the family has one; most have none.

        Args:
            model: the Hugging Face model.
            prompts: B prompts.
            inputs: the model's, for these prompts.
            room: tokens that a response may have.

        Raises:
            NoDecoderError: the family has none for this model.
        """
        raise NoDecoderError("the family has none")

    def positions(self, model: Any, prompts: Sequence[Prompt], inputs: Mapping[str, Any]) -> Tensor:
        """Positions of the tokens of prompts, (B, P) int64, or (3, B, P) of models that have three axes.

        Args:
            model: the Hugging Face model.
            prompts: B prompts.
            inputs: the model's, for these prompts, padded on the left.
        """
        return counted(inputs["attention_mask"])

    def trunk(self, model: Any) -> Any:
        """The module of a Hugging Face model that maps inputs to `last_hidden_state` (B, T, H)."""
        return model.base_model

    def lm_head(self, model: Any) -> Any:
        """The module of a Hugging Face model that maps hidden states (..., H) to logits (..., V)."""
        return model.get_output_embeddings()


def stacked(prompts: Sequence[Prompt], name: str) -> Tensor:
    """The picture tensors of one name of all prompts, concatenated along their first dimension."""
    return torch.cat([prompt.pictures[name] for prompt in prompts])
