"""A vision-language model as the method sees it: prompts in, sampled responses, log-probabilities and states out.

One class serves the model built on the machine and the released ones of 7 billion parameters; families differ only in
`vldac.families`. Token ids are kept from generation to the loss and never made from text again, and sampling and
learning read log-probabilities through the same function, with the same temperature and the same forbidden tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
)
from transformers.utils import ModelOutput, cached_file, extract_commit_hash

from vldac.conversation import Message
from vldac.encoding import Encoder, Prompt
from vldac.families import LORA_TARGETS, family_of
from vldac.sampling import Sampler

__all__ = ["VLM", "Prompt", "Response", "Scores"]


@dataclass(frozen=True)
class Response:
    """One sampled response, the end-of-turn token included unless it was cut off.

    Attributes:
        token_ids: (R,) int64.
        log_probs: (R,) float32, under the distribution that was sampled from.
    """

    token_ids: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class Scores:
    """What one forward pass over B prompts with their responses yields.

    Attributes:
        log_probs: (B, R) float32 of each response token, 0 where masked out.
        mask: (B, R) bool, true on response tokens.
        states: (B, H), last-layer hidden state at the last prompt token.
        entropies: (B, R) float32 of the distribution that each token was drawn from, 0 where masked out; detached.
    """

    log_probs: Tensor
    mask: Tensor
    states: Tensor
    entropies: Tensor


class VLM(nn.Module):
    """A causal vision-language model with its tokenizer and image processor.

    Args:
        model: a Hugging Face image-text-to-text model, or a PEFT model around one.
        tokenizer: its tokenizer.
        image_processor: its image processor.
    """

    #: (V,) bool, the token ids that are never drawn and take no part in log-probabilities.
    forbidden: Tensor

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        config = self.backbone.config
        self.family = family_of(config.model_type)
        self.hidden_size: int = config.text_config.hidden_size
        self.end_id: int = tokenizer.convert_tokens_to_ids(self.family.end_of_turn)
        self.pad_id: int = tokenizer.pad_token_id
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(self.family.image_token)
        forbidden = torch.zeros(config.text_config.vocab_size, dtype=torch.bool)
        forbidden[[tokenizer.convert_tokens_to_ids(token) for token in self.family.forbidden_tokens]] = True
        forbidden[len(tokenizer) :] = True  # rows that only pad the embedding matrix
        self.register_buffer("forbidden", forbidden, persistent=False)
        #: Of the hub, if the model came from there: a branch may move, a commit does not.
        self.commit: str | None = None
        #: Every rank makes the same forward passes, because each of them waits for weights that other ranks hold
        #: (ZeRO stage 3).
        self.lockstep = False
        #: From conversations to prompts.
        self.encoder = Encoder(tokenizer, image_processor, self.family)
        # What a released model advises for chats, such as a repetition penalty, `generate` would put between the model
        # and the sampler: the log-probabilities of sampling would no longer be those of learning.
        advised = self.backbone.generation_config
        self.backbone.generation_config = GenerationConfig(
            bos_token_id=advised.bos_token_id, eos_token_id=advised.eos_token_id, pad_token_id=advised.pad_token_id
        )

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        *,
        revision: str | None = None,
        dtype: torch.dtype | Literal["auto"] = torch.float32,
    ) -> VLM:
        """Loads a Hugging Face directory or hub id.

        Args:
            base: the directory or id.
            revision: branch, tag or commit of a hub id.
            dtype: of the weights; "auto" leaves them as they were saved.

        Raises:
            OSError: nothing is there, or its files are incomplete.
            UnsupportedFamilyError: the model is of a family that is not supported.
        """
        commit = None if Path(base).is_dir() else _commit(str(base), revision)
        revision = commit or revision  # all files of one commit, even while a branch moves
        described, _ = PreTrainedConfig.get_config_dict(base, revision=revision)
        family_of(str(described.get("model_type")))  # before gigabytes are read
        model = AutoModelForImageTextToText.from_pretrained(
            base, revision=revision, dtype=dtype, use_safetensors=True, attn_implementation="sdpa"
        )
        tokenizer = AutoTokenizer.from_pretrained(base, revision=revision)
        processor = AutoImageProcessor.from_pretrained(base, revision=revision, backend="pil")
        vlm = cls(model, tokenizer, processor).eval()
        vlm.commit = commit
        return vlm

    @property
    def backbone(self) -> Any:
        """The Hugging Face model, inside its adapter if it has one."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.forbidden.device

    def add_adapter(self, rank: int, alpha: int) -> None:
        """Freezes the model and puts a LoRA adapter on its language model. It starts as the identity.

        There is no dropout: sampling, old and new log-probabilities must come from the same network.
        """
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=LORA_TARGETS)
        self.model = get_peft_model(self.model, config)

    def load_adapter(self, directory: str | Path) -> None:
        """Puts a trained adapter on the model."""
        self.model = PeftModel.from_pretrained(self.model, str(directory))

    @contextmanager
    def adapter_disabled(self) -> Iterator[None]:
        """Within it, the model is the one that the adapter was put on."""
        if not isinstance(self.model, PeftModel):
            raise TypeError("this model has no adapter to disable")
        with self.model.disable_adapter():
            yield

    # Encoding

    def encode(self, frames: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> list[Prompt]:
        """Encodes B observations: frames, each (K, H, W, 3) uint8, and prompt texts."""
        return self.encoder([(Message("user", (*window, text)),) for window, text in zip(frames, prompts, strict=True)])

    def encode_response(self, text: str) -> Tensor:
        """Token ids (R,) of a written response and its end of turn. For supervised targets only."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor([*ids, self.end_id])

    def decode(self, token_ids: Tensor) -> str:
        """The text of a response, without its end of turn."""
        return str(self.tokenizer.decode(token_ids[token_ids != self.end_id]))

    @torch.no_grad()
    def encode_frames(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Runs the vision tower once for good, where only an adapter on the language model is trained.

        An update reads each prompt six times or more; without this, a frozen tower would be run as often.
        """
        shown = bool(prompts) and all(len(p.image_grid_thw) for p in prompts)
        if not isinstance(self.model, PeftModel) or self.lockstep or not shown:
            return list(prompts)
        grids = torch.cat([p.image_grid_thw for p in prompts]).to(self.device)
        pixels = torch.cat([p.pixel_values for p in prompts]).to(self.device)
        output = self.backbone.model.get_image_features(pixels, grids, return_dict=True)
        sizes = [int(p.image_grid_thw.prod(-1).sum()) // self.image_processor.merge_size**2 for p in prompts]
        features = torch.cat(tuple(output.pooler_output)).split(sizes)
        layers = [torch.cat(layer).split(sizes) for layer in getattr(output, "deepstack_features", None) or ()]
        return [
            replace(p, features=features[i].clone(), deepstack=tuple(layer[i].clone() for layer in layers))
            for i, p in enumerate(prompts)
        ]

    def collate(self, prompts: Sequence[Prompt], responses: Sequence[Tensor] = ()) -> tuple[dict[str, Any], int]:
        """Pads prompts on the left and responses on the right, so that every response starts in one column.

        Returns:
            The model's inputs, and P, the padded length of the prompts.
        """
        width = max(len(p.input_ids) for p in prompts)
        length = max((len(r) for r in responses), default=0)
        ids = torch.full((len(prompts), width + length), self.pad_id)
        attention = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            start = width - len(prompt.input_ids)
            ids[row, start:width] = prompt.input_ids
            attention[row, start:width] = 1
        for row, response in enumerate(responses):
            ids[row, width : width + len(response)] = response
            attention[row, width : width + len(response)] = 1
        tensors = {"input_ids": ids, "attention_mask": attention}
        features = [p.features for p in prompts if p.features is not None]
        if shown := [p for p in prompts if len(p.image_grid_thw)]:  # the model infers positions where nothing is shown
            tensors["mm_token_type_ids"] = (ids == self.image_token_id).int()
            tensors["image_grid_thw"] = torch.cat([p.image_grid_thw for p in shown])
            if len(features) != len(prompts):
                tensors["pixel_values"] = torch.cat([p.pixel_values for p in shown])
        inputs: dict[str, Any] = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        if len(features) == len(prompts):
            images: dict[str, Any] = {"pooler_output": tuple(features)}
            if prompts[0].deepstack:
                images["deepstack_features"] = list(zip(*(p.deepstack for p in prompts), strict=True))
            inputs["mm_encoder_outputs"] = {"image": ModelOutput(images)}
        return inputs, width

    # Distribution of a response token

    def token_log_probs(self, logits: Tensor, temperature: float) -> Tensor:
        """Log-probabilities (..., V) float32 that responses are drawn from: forbidden tokens at -inf."""
        scaled = logits.float() / temperature
        return torch.log_softmax(scaled.masked_fill(self.forbidden, -torch.inf), dim=-1)

    def forward(self, prompts: Sequence[Prompt], responses: Sequence[Tensor], temperature: float) -> Scores:
        """Scores responses, one forward pass for all of them.

        Args:
            prompts: B prompts.
            responses: B responses, each (R_i,) int64.
            temperature: that the responses were sampled at.
        """
        inputs, width = self.collate(prompts, responses)
        hidden = self.backbone.model(**inputs, use_cache=False).last_hidden_state
        ids = inputs["input_ids"][:, width:]
        mask = inputs["attention_mask"][:, width:].bool()
        distribution = self.token_log_probs(self.backbone.lm_head(hidden[:, width - 1 : -1]), temperature)
        # Padding is a forbidden token: its -inf must not reach the loss, not even multiplied by zero.
        chosen = distribution.gather(-1, ids.masked_fill(~mask, self.end_id).unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            entropies = -(distribution.exp() * distribution.masked_fill(self.forbidden, 0.0)).sum(-1)
        return Scores(
            log_probs=torch.where(mask, chosen, 0.0),
            mask=mask,
            states=hidden[:, width - 1],
            entropies=torch.where(mask, entropies, 0.0),
        )

    @torch.no_grad()
    def states(self, prompts: Sequence[Prompt]) -> Tensor:
        """Hidden states (B, H) at the last token of each prompt."""
        inputs, width = self.collate(prompts)
        state: Tensor = self.backbone.model(**inputs, use_cache=False).last_hidden_state[:, width - 1]
        return state

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> list[Response]:
        """Samples one response a prompt from exactly `token_log_probs`; no top-k, no top-p.

        Args:
            prompts: B prompts.
            max_new_tokens: a response that has not ended by then is cut off.
            temperature: 0 takes the likeliest token.
            generator: source of all randomness; its state alone decides the samples. One for each prompt makes a
                response independent of what else is in the batch.
        """
        inputs, width = self.collate(prompts)
        sampler = Sampler(
            lambda logits: self.token_log_probs(logits, temperature or 1.0), generator, greedy=temperature == 0
        )
        output = self.backbone.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            logits_processor=[sampler],
            eos_token_id=self.end_id,
            pad_token_id=self.pad_id,
            synced_gpus=self.lockstep,
        )[:, width:].cpu()
        log_probs = torch.stack(sampler.log_probs, dim=1).cpu()
        ended = (output == self.end_id).int()
        lengths = (ended.cumsum(1) - ended == 0).sum(1).tolist()
        return [Response(output[i, :n].clone(), log_probs[i, :n].clone()) for i, n in enumerate(lengths)]


def _commit(hub_id: str, revision: str | None) -> str | None:
    """The commit that a revision of a hub id stands for now, or in the cache where the hub cannot be reached."""
    return extract_commit_hash(cached_file(hub_id, "config.json", revision=revision), None)
