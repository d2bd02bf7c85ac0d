"""A lean decoder of the Qwen-VL language models, for models so small that a layer's cost is that of its calls.

It computes what transformers computes, in float32 and to rounding: the three projections of attention are one product,
and so are the two that open the feed-forward block; LoRA is merged into a copy of the weights; keys and values lie in
memory that is taken once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners import lora
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen2_5_vl
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3_vl

from vldac.models.adapter import NoDecoderError

#: Where the classes are defined that `QwenDecoder` knows. Any other, a subclass included, may compute something else.
_FAMILIES = frozenset(module.__name__ for module in (qwen2_vl, qwen2_5_vl, qwen3_vl))
_PARTS = frozenset(
    {nn.Linear, nn.Embedding, nn.ModuleList, SiLUActivation, lora.Linear, nn.ModuleDict, nn.ParameterDict, nn.Identity}
)
_MOST_WEIGHTS = 2**26  # of the layers; beyond, products take the time, and a copy of the weights is not worth it


@dataclass(frozen=True)
class _Layer:
    """The weights of one layer, each (inputs, outputs): LoRA merged, and those that read the same input joined.

    Those that read a normalized input hold the weight of that norm too.
    """

    qkv: Tensor
    qkv_bias: Tensor
    qk_norm: Tensor | None  # (heads + key-value heads, D)
    out: Tensor
    gate_up: Tensor
    down: Tensor


class QwenDecoder:
    """See `vldac.models.adapter.Decoder`; the weights are those of the moment in which it is made.

    Args:
        model: the language model.
        embeddings: (B, P, H) of the prompts, padded on the left, visual features in their places.
        positions: (3, B, P) int64, on each axis.
        mask: (B, P) bool, false where padded.
        visual: (B, P) bool, true at visual tokens.
        deepstack: (visual tokens, H) for each of the first layers, added to what it puts out at visual tokens.
        room: tokens that a response may have.

    Raises:
        NoDecoderError: the model is not quite one of those that are known here, or is too large to gain from it.
    """

    def __init__(
        self,
        model: Any,
        embeddings: Tensor,
        *,
        positions: Tensor,
        mask: Tensor,
        visual: Tensor,
        deepstack: Sequence[Tensor],
        room: int,
    ) -> None:
        _require_known(model)
        config = model.config
        self.model, self.epsilon = model, config.rms_norm_eps
        self.least_norm = embeddings.new_tensor((config.hidden_size * self.epsilon) ** 0.5)
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.head_size = model.layers[0].self_attn.head_dim
        self.layers = [_layer(layer, self.heads, self.groups) for layer in model.layers]
        batch, self.width, _ = embeddings.shape
        #: Keys and values, (2, layers, B, key-value heads, P + room, D).
        self.cache = embeddings.new_empty(2, len(self.layers), batch, self.groups, self.width + room, self.head_size)
        self.length = 0
        #: Which columns of the cache each row may read, (B, P + room); None where no prompt is padded.
        self.readable = None if mask.all() else F.pad(mask, (0, room), value=True)
        following = positions.amax((0, 2))[:, None] + torch.arange(1, room + 1, device=positions.device)
        self.rotations = self._rotations(embeddings, following.expand(3, -1, -1))
        self.states = self._forward(embeddings, self._rotations(embeddings, positions), visual.flatten(), deepstack)

    def step(self, tokens: Tensor) -> Tensor:
        """Reads one more token of each row, (B,) int64; returns its last-layer hidden states, (B, H)."""
        written = self.length - self.width
        cos, sin = self.rotations
        here = cos[:, written : written + 1], sin[:, written : written + 1]
        return self._forward(self.model.embed_tokens(tokens)[:, None], here)

    def keep(self, rows: Tensor) -> None:
        """Goes on with some of the rows only, (B,) bool."""
        self.cache = self.cache[:, :, rows]
        cos, sin = self.rotations
        self.rotations = cos[rows], sin[rows]
        self.readable = None if self.readable is None else self.readable[rows]

    def _rotations(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (B, T, 1, D) of positions (3, B, T)."""
        cos, sin = self.model.rotary_emb(like, positions)
        sign = torch.ones_like(sin[0, 0])
        sign[: len(sign) // 2] = -1
        return cos.unsqueeze(2), (sin * sign).unsqueeze(2)

    def _forward(
        self,
        x: Tensor,
        rotations: tuple[Tensor, Tensor],
        visual: Tensor | None = None,
        deepstack: Sequence[Tensor] = (),
    ) -> Tensor:
        """Reads T tokens of each row, (B, T, H); returns the last-layer hidden states (B, H) of the last one."""
        batch, count, size = x.shape
        cos, sin = rotations
        end = self.length + count
        mask = self._mask(count, end)
        x, last = x.reshape(-1, size), len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            qkv = torch.addmm(layer.qkv_bias, self._normalized(x), layer.qkv)
            qk, v = qkv.view(batch, count, -1, self.head_size).split([self.heads + self.groups, self.groups], dim=2)
            if layer.qk_norm is not None:
                qk = F.rms_norm(qk, (self.head_size,), eps=self.epsilon) * layer.qk_norm
            qk = torch.addcmul(qk * cos, qk.roll(self.head_size // 2, -1), sin)
            q, k = qk.split([self.heads, self.groups], dim=2)
            keys, values = self.cache[:, number]
            keys[:, :, self.length : end], values[:, :, self.length : end] = k.transpose(1, 2), v.transpose(1, 2)
            if number == last:  # its output is asked for at the last token only, which is never visual
                q, x = q[:, -1:], x.view(batch, count, size)[:, -1]
                mask = mask if mask is None else mask[:, :, -1:]
            x = torch.addmm(x, self._attend(q, keys[:, :, :end], values[:, :, :end], mask), layer.out)
            gate, up = (self._normalized(x) @ layer.gate_up).chunk(2, -1)
            x = torch.addmm(x, F.silu(gate).mul_(up), layer.down)
            if number < min(len(deepstack), last):
                x[visual] += deepstack[number]
        self.length = end
        return F.rms_norm(x, (size,), self.model.norm.weight, self.epsilon)

    def _normalized(self, x: Tensor) -> Tensor:
        """RMSNorm of (N, H) without its weight and but for a factor of sqrt(H), both of which the next weights hold."""
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least_norm)

    def _mask(self, count: int, end: int) -> Tensor | None:
        """Which keys the last `count` tokens of each row read, (B, 1, count, end); None for all up to themselves."""
        if self.readable is None:
            return None
        readable = self.readable[:, None, None, :end]
        if count == 1:
            return readable
        causal = torch.ones(count, end, dtype=torch.bool, device=readable.device).tril(end - count)
        return causal & readable  # padding reads nothing, and is read by nothing

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attention (B * T, heads * D) of queries (B, T, heads, D)."""
        batch, count, heads, size = q.shape
        if count == 1:  # heads that share keys are as good as several queries of one head
            q = q.reshape(batch, self.groups, heads // self.groups, size)
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask).reshape(batch, -1)
        q, causal = q.transpose(1, 2), mask is None
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=True)
        return attended.transpose(1, 2).reshape(batch * count, -1)


def _require_known(model: Any) -> None:
    """Raises NoDecoderError unless the model computes what `QwenDecoder` does."""
    rope = model.config.rope_parameters["rope_type"]
    if model.dtype != torch.float32:
        raise NoDecoderError(f"the weights are {model.dtype}, not float32")
    if len(model.layers) * sum(weight.numel() for weight in model.layers[0].parameters()) > _MOST_WEIGHTS:
        raise NoDecoderError("the model is too large to gain from it")
    if rope != "default":
        raise NoDecoderError(f"the positions are of type {rope}")
    if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise NoDecoderError("attention has a sliding window")
    for module in model.modules():
        kind = type(module)
        if kind.__module__ not in _FAMILIES and kind not in _PARTS:
            raise NoDecoderError(f"the language model holds a {kind.__name__}")
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise NoDecoderError(f"a {kind.__name__} has hooks")


def _layer(layer: Any, heads: int, groups: int) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    reading = (attention.q_proj, attention.k_proj, attention.v_proj)
    if any(linear.bias is not None for linear in (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)):
        raise NoDecoderError("a projection has a bias that is not known here")
    qkv, qk_norm = _joined(reading, layer.input_layernorm.weight), None
    if hasattr(attention, "q_norm"):
        qk_norm = torch.cat([attention.q_norm.weight.expand(heads, -1), attention.k_norm.weight.expand(groups, -1)])
    biased = reading[0].bias is not None
    return _Layer(
        qkv=qkv,
        qkv_bias=torch.cat([linear.bias for linear in reading]) if biased else qkv.new_zeros(qkv.shape[1]),
        qk_norm=qk_norm,
        out=_joined([attention.o_proj]),
        gate_up=_joined([mlp.gate_proj, mlp.up_proj], layer.post_attention_layernorm.weight),
        down=_joined([mlp.down_proj]),
    )


def _joined(linears: Sequence[Any], norm: Tensor | None = None) -> Tensor:
    """The weights (inputs, outputs) of linear layers, behind a norm whose output is what `_normalized` leaves."""
    parts = [_merged(linear) for linear in linears]
    weights = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0].contiguous()
    return weights if norm is None else weights.mul_(norm[:, None] * len(norm) ** 0.5)


def _merged(linear: Any) -> Tensor:
    """The weight (inputs, outputs) of a linear layer, its adapter added; the layer stays as it is."""
    if not isinstance(linear, lora.Linear):
        return linear.weight.T
    if linear.lora_variant or linear.merged or any(linear.lora_bias.values()):
        raise NoDecoderError("the adapter is no plain LoRA")
    weight = linear.base_layer.weight.T
    for name in () if linear.disable_adapters else linear.active_adapters:
        if name in linear.lora_A:
            low, high = linear.lora_A[name].weight, linear.lora_B[name].weight
            weight = torch.addmm(weight, low.T, high.T, alpha=linear.scaling[name])
    return weight
