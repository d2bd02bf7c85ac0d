"""A vision-language model as the method sees it: prompts in, sampled responses, log-probabilities and states out.

One class serves the model built on the machine and the released ones of 7 billion parameters; families differ only in
their `ModelAdapter`. Token ids are kept from generation to the loss and never made from text again, and sampling and
learning read log-probabilities through the same function, with the same temperature and the same forbidden tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MethodType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners import lora
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, GenerationConfig, PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import cached_file, extract_commit_hash

from envs.base import Observation
from vldac.models.adapter import ModelAdapter
from vldac.models.conversation import Message
from vldac.models.files import WeightsError, require_downloaded, require_model
from vldac.models.picture_cache import PictureCache
from vldac.models.prompts import Encoder, Prompt
from vldac.models.registry import adapter_for
from vldac.models.token_scores import CHUNK, token_scores

__all__ = ["VLM", "Prompt", "Response", "Scores"]


@dataclass(frozen=True)
class Response:
    """One sampled response, the end-of-turn token included unless it was cut off or ends with its answer.

    Attributes:
        token_ids: (R,) int64.
        log_probs: (R,) float32, under the distribution that was sampled from.
        state: (H,), last-layer hidden state at the last prompt token, if the engine knows it: `VLM.states` to rounding.
    """

    token_ids: Tensor
    log_probs: Tensor
    state: Tensor | None = None


@dataclass(frozen=True)
class Scores:
    """What one forward pass over B prompts with their responses yields.

    Attributes:
        log_probs: (B, R) float32 of each response token, 0 where masked out.
        mask: (B, R) bool, true on response tokens.
        states: (B, 1 + R, H), last-layer hidden states at the last prompt token and at each response token.
        entropies: (B, R) float32 of the distribution that each token was drawn from, 0 where masked out; detached. None
            unless they were asked for.
    """

    log_probs: Tensor
    mask: Tensor
    states: Tensor
    entropies: Tensor | None = None


class VLM(nn.Module):
    """A causal vision-language model with its tokenizer and image processor.

    Args:
        model: a Hugging Face image-text-to-text model, or a PEFT model around one.
        family: what is particular to the model's family, with its tokenizer and image processor.
        thinking: see `Encoder`.
        system_message: stands before each observation; None for none, or for what the chat template writes by itself.
    """

    #: (V,) bool, the token ids that are never drawn and take no part in log-probabilities.
    forbidden: Tensor

    def __init__(
        self, model: Any, family: ModelAdapter, thinking: bool | None = None, system_message: str | None = None
    ) -> None:
        super().__init__()
        self.model, self.family = model, family
        self.tokenizer = tokenizer = family.tokenizer
        self.image_processor = family.image_processor
        config = self.backbone.config
        self.hidden_size: int = config.get_text_config().hidden_size
        self.end_id: int = tokenizer.convert_tokens_to_ids(self.family.end_of_turn)
        self.pad_id: int = tokenizer.pad_token_id
        forbidden = torch.zeros(config.get_text_config().vocab_size, dtype=torch.bool)
        forbidden[[tokenizer.convert_tokens_to_ids(token) for token in self.family.forbidden_tokens]] = True
        forbidden[len(tokenizer) :] = True  # rows that only pad the embedding matrix
        self.register_buffer("forbidden", forbidden, persistent=False)
        lm_head = self.family.lm_head(self.backbone)
        if lm_head.weight.dtype != torch.float32:
            lm_head.forward = MethodType(_float32_logits, lm_head)
        #: Of `keep_head`.
        self._kept_head: tuple[Tensor, Tensor | None] | None = None
        #: Of the hub, if the model came from there: a branch may move, a commit does not.
        self.commit: str | None = None
        #: Every rank makes the same forward passes, because each of them waits for weights that other ranks hold
        #: (ZeRO stage 3).
        self.lockstep = False
        #: Within `vldac.learner.Learner.sampling`, whether weights of several ranks are whole on each of them.
        self.gathered = False
        #: From conversations to prompts.
        self.encoder = Encoder(tokenizer, self.family, thinking)
        self._before = () if system_message is None else (Message("system", (system_message,)),)
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
        family: str | None = None,
        thinking: bool | None = None,
        system_message: str | None = None,
        max_pixels: int | None = None,
    ) -> VLM:
        """Loads a Hugging Face directory or hub id.

        Args:
            base: the directory or id.
            revision: branch, tag or commit of a hub id.
            dtype: of the weights; "auto" leaves them as they were saved.
            family: see `vldac.models.registry.adapter_for`; None goes by the model's type.
            thinking: see `Encoder`.
            system_message: see `VLM`.
            max_pixels: larger pictures are scaled down to it; see `ModelAdapter.limit_pixels`.

        Raises:
            OSError: nothing is there, or its files are incomplete.
            UserError: its chat template has no switch for thinking.
            UnsupportedFamilyError: the model is of a family that is not supported.
            WeightsError: its files are not those of one model.
        """
        if local := Path(base).is_dir():
            require_model(Path(base))
        commit = None if local else _commit(str(base), revision)
        revision = commit or revision  # all files of one commit, even while a branch moves
        described, _ = PreTrainedConfig.get_config_dict(base, revision=revision)
        adapter = adapter_for(str(described.get("model_type")), family)  # before gigabytes are read
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            base,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # which `_require_whole` refuses with their names
            trust_remote_code=False,
        )
        _require_whole(base, loaded)
        try:
            tokenizer, processor = adapter.load_tokenizer(base, revision), adapter.load_image_processor(base, revision)
        except ValueError as error:  # of transformers, for what it could only load by code from outside
            raise WeightsError(
                f"{base} cannot be loaded without running code that comes with it, which is never done "
                f"({' '.join(str(error).split())[:100]}…); take a model whose processors transformers has"
            ) from error
        if len(tokenizer) > (rows := model.config.get_text_config().vocab_size):
            raise WeightsError(
                f"the tokenizer of {base} has {len(tokenizer)} tokens, and the model {rows} rows for them; download "
                "the model again, with its own tokenizer"
            )
        vlm = cls(model, adapter(model.config, tokenizer, processor), thinking, system_message).eval()
        vlm.commit = commit
        if max_pixels is not None:
            vlm.family.limit_pixels(1, max_pixels)
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
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=self.family.lora_targets)
        self.model = get_peft_model(self.model, config)

    def load_adapter(self, directory: str | Path) -> None:
        """Puts a trained adapter on the model.

        Raises:
            WeightsError: it has no safetensors, or was trained on another kind of model.
        """
        path = Path(directory) / "adapter_model.safetensors"
        if not path.is_file():
            raise WeightsError(f"{directory} has no adapter_model.safetensors; other formats are not loaded")
        require_downloaded(path)
        with safe_open(path, framework="pt") as file:
            stored = set(file.keys())
        model = PeftModel.from_pretrained(self.model, str(directory))
        wanted = set(get_peft_model_state_dict(model))
        if stored != wanted:
            names = sorted(stored ^ wanted)
            raise WeightsError(
                f"the adapter in {directory} does not fit this base: {len(stored - wanted)} of its weights lead "
                f"nowhere and {len(wanted - stored)} are missing (such as {names[0]}); name its own base"
            )
        self.model = model

    @contextmanager
    def adapter_disabled(self) -> Iterator[None]:
        """Within it, the model is the one that the adapter was put on."""
        if not isinstance(self.model, PeftModel):
            raise TypeError("this model has no adapter to disable")
        with self.model.disable_adapter():
            yield

    @contextmanager
    def adapter_merged(self) -> Iterator[None]:
        """Within it, float32 weights are copies that hold the adapter; afterwards they are the very tensors of before.

        The same numbers to rounding, with a third fewer calls in each layer. bfloat16 weights are left alone: the steps
        between their numbers are larger than what an adapter adds to most of them, which would be lost.
        """
        layers = [module for module in self.backbone.modules() if isinstance(module, lora.Linear)]
        odd = any(
            layer.disable_adapters or layer.merged or layer.lora_variant or any(layer.lora_bias.values())
            for layer in layers
        )
        if not layers or odd or self.backbone.dtype != torch.float32:
            yield
            return
        kept = [layer.base_layer.weight.data for layer in layers]
        with self.adapter_disabled():
            try:
                for layer in layers:
                    for name in layer.active_adapters:
                        layer.base_layer.weight.data = layer.base_layer.weight.data + layer.get_delta_weight(name)
                yield
            finally:
                for layer, weight in zip(layers, kept, strict=True):
                    layer.base_layer.weight.data = weight

    def keep_head(self) -> None:
        """Keeps a head that is not trained in float32: each use would convert it again, for every token of a response.

        The weights must be whole, and on their device.
        """
        head = self.family.lm_head(self.backbone)
        if head.weight.dtype != torch.float32:
            bias = None if head.bias is None else head.bias.detach().float()
            self._kept_head = head.weight.detach().float(), bias

    def logits(self, states: Tensor) -> Tensor:
        """Logits (..., V) float32 of last-layer hidden states (..., H)."""
        if self._kept_head is None:
            found: Tensor = self.family.lm_head(self.backbone)(states)
            return found
        return nn.functional.linear(states.float(), *self._kept_head)

    def allow_recomputing(self) -> None:
        """Prepares for `recomputing`, before anything is compiled: what is compiled already would be once more."""
        self.backbone.activation_checkpointing_enable({"use_reentrant": False})

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """Within it, forward passes keep the inputs of layers alone and backward passes compute the rest again.

        transformers' layers do so in training mode only. They alone are put into it, not what is within them, so that
        nothing is dropped out.
        """
        layers = [module for module in self.backbone.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not any(layer.gradient_checkpointing for layer in layers):
            self.allow_recomputing()
        for layer in layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    # Encoding

    def encode(
        self, frames: Sequence[NDArray[np.uint8]], prompts: Sequence[str], pictures: PictureCache | None = None
    ) -> list[Prompt]:
        """Encodes B observations: frames, each (K, H, W, 3) uint8, and prompt texts.

        Args:
            frames: of each observation.
            prompts: of each observation.
            pictures: those that have been encoded already.
        """
        shown: list[Observation] = [{"frames": f, "prompt": p} for f, p in zip(frames, prompts, strict=True)]
        return self.encoder([self.conversation(observation) for observation in shown], pictures)

    def conversation(self, observation: Observation) -> tuple[Message, ...]:
        """An observation as the model reads it: the system message, earlier exchanges, then frames and prompt."""
        earlier: list[Message] = []
        for prompt, answer in observation.get("history", ()):
            earlier += Message("user", (prompt,)), Message("assistant", (answer,))
        return (*self._before, *earlier, Message("user", (*observation["frames"], observation["prompt"])))

    def encode_response(self, text: str) -> Tensor:
        """Token ids (R,) of a written response and its end of turn. For supervised targets only."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor([*ids, self.end_id])

    def decode(self, token_ids: Tensor) -> str:
        """The text of a response, from what the chat template has begun it with, without its end of turn."""
        return self.encoder.opening + str(self.tokenizer.decode(token_ids[token_ids != self.end_id]))

    @torch.no_grad()
    def encode_frames(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Runs the vision tower once for good, where only an adapter on the language model is trained.

        An update reads each prompt six times or more; without this, a frozen tower would be run as often. The pixels
        are let go.
        """
        shown = bool(prompts) and all(prompt.pictures for prompt in prompts)
        if not isinstance(self.model, PeftModel) or self.lockstep or not shown:
            return list(prompts)
        features = self.family.vision_features(self.backbone, prompts)
        return [
            replace(prompt, features=each, pictures=self._without_pixels(prompt))
            for prompt, each in zip(prompts, features, strict=True)
        ]

    def _without_pixels(self, prompt: Prompt) -> dict[str, Tensor]:
        """The picture tensors of a prompt, those that are gigabytes in a rollout left empty."""
        names = self.family.pixel_names
        return {name: value.new_empty(0) if name in names else value for name, value in prompt.pictures.items()}

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
        inputs = {"input_ids": ids, "attention_mask": attention, **self.family.model_inputs(prompts, ids)}
        on_device = {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        return on_device, width

    @cached_property
    def closing_tokens(self) -> Tensor:
        """(V,) bool on the CPU, the token ids whose text holds a closing brace."""
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        closing = torch.zeros(len(self.forbidden), dtype=torch.bool)
        closing[: len(texts)] = torch.tensor(["}" in text for text in texts])
        return closing

    # Distribution of a response token

    def token_log_probs(self, logits: Tensor, temperature: float) -> Tensor:
        """Log-probabilities (..., V) float32 that responses are drawn from: forbidden tokens at -inf."""
        scaled = logits.float() / temperature
        return torch.log_softmax(scaled.masked_fill(self.forbidden, -torch.inf), dim=-1)

    def forward(
        self, prompts: Sequence[Prompt], responses: Sequence[Tensor], temperature: float, *, entropies: bool = False
    ) -> Scores:
        """Scores responses, one forward pass for all of them.

        Args:
            prompts: B prompts.
            responses: B responses, each (R_i,) int64.
            temperature: that the responses were sampled at.
            entropies: whether to compute them.
        """
        inputs, width = self.collate(prompts, responses)
        hidden = self.family.trunk(self.backbone)(**inputs, use_cache=False).last_hidden_state
        ids = inputs["input_ids"][:, width:]
        mask = inputs["attention_mask"][:, width:].bool()
        # Padding is a forbidden token: its -inf must not reach the loss, not even multiplied by zero.
        targets = ids.masked_fill(~mask, self.end_id)
        # A head in shards is gathered by each use, for which every rank must come as often: all positions are one use.
        at_once = self.lockstep and self._kept_head is None
        log_probs, of_tokens = token_scores(
            hidden[:, width - 1 : -1].flatten(0, 1),
            targets.flatten(),
            lambda states: self.token_log_probs(self.logits(states), temperature),
            self.forbidden if entropies else None,
            chunk=targets.numel() if at_once else max(1, CHUNK // len(self.forbidden)),
        )
        return Scores(
            log_probs=torch.where(mask, log_probs.view_as(mask), 0.0),
            mask=mask,
            states=hidden[:, width - 1 :],
            entropies=None if of_tokens is None else torch.where(mask, of_tokens.view_as(mask), 0.0),
        )

    @torch.no_grad()
    def states(self, prompts: Sequence[Prompt]) -> Tensor:
        """Hidden states (B, H) at the last token of each prompt."""
        inputs, width = self.collate(prompts)
        state: Tensor = self.family.trunk(self.backbone)(**inputs, use_cache=False).last_hidden_state[:, width - 1]
        return state


def _float32_logits(head: Any, states: Tensor) -> Tensor:
    """Logits in float32 of a head in less: rounding them is most of the noise in bfloat16's log-probabilities."""
    bias = None if head.bias is None else head.bias.float()
    return nn.functional.linear(states.float(), head.weight.float(), bias)


def _require_whole(base: str | Path, loaded: Mapping[str, Any]) -> None:
    """Refuses weights that do not fit the model: transformers would put random numbers in their place."""
    kinds = (("missing", "missing_keys"), ("unexpected", "unexpected_keys"), ("of another shape", "mismatched_keys"))
    wrong = []
    for word, key in kinds:
        names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in loaded.get(key) or ())
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            wrong.append(f"{word}: {', '.join(names[:3])}{more}")
    if wrong:
        raise WeightsError(
            f"the weights of {base} do not fit its config.json ({'; '.join(wrong)}); download the model again, or mend "
            "its config.json"
        )


def _commit(hub_id: str, revision: str | None) -> str | None:
    """The commit that a revision of a hub id stands for now, or in the cache where the hub cannot be reached."""
    return extract_commit_hash(cached_file(hub_id, "config.json", revision=revision), None)
