"""A small vision-language model of a real architecture, built on the machine.

No pretrained VLM can be had offline, so the default model is Qwen2-VL (or 2.5, or 3) with 1 to 3 million parameters
and a byte-level BPE trained on the texts of one world. It is saved as an ordinary Hugging Face directory and loaded
by the same code as Qwen/Qwen2-VL-7B-Instruct.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vldac.config import TinyConfig
from vldac.utils.files import honor_umask

# Qwen's special tokens, in Qwen's order: they come after the BPE vocabulary, as in the released models.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# ChatML with images, as the Qwen-VL models read it, without their default system message.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Words with their leading blank, digits one by one, punctuation, line ends: numbers never merge with each other.
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
_MERGE = 2  # visual patches are merged 2 x 2 into one token
_MAX_POSITIONS = 4096


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE on `texts`; Qwen's special tokens follow its vocabulary.

    Args:
        texts: what the model will read and write.
        vocabulary: entries in all, the 256 bytes and the special tokens included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106  # a special token, not a password
        pad_token="<|endoftext|>",  # noqa: S106
        padding_side="left",
        extra_special_tokens=list(SPECIAL_TOKENS),
        chat_template=CHAT_TEMPLATE,
        model_max_length=_MAX_POSITIONS,
    )


def build(config: TinyConfig, texts: Iterable[str], seed: int, directory: str | Path) -> Path:
    """Builds a randomly initialized model with its tokenizer and image processor, and saves it.

    Args:
        config: the shape.
        texts: corpus of the tokenizer.
        seed: of the initialization.
        directory: where the Hugging Face directory is written.
    """
    directory = Path(directory)
    tokenizer = train_tokenizer(texts, config.vocabulary)
    rows = -(-len(tokenizer) // 64) * 64  # padded like the released models; the extra rows are never sampled
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    model = _initialize(model_config(config, rows, ids), seed)
    end, pad = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>"))
    model.generation_config.eos_token_id = [end, pad]
    model.generation_config.pad_token_id = pad
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    image_processor(config).save_pretrained(directory)
    honor_umask(directory)
    return directory


def image_processor(config: TinyConfig) -> Qwen2VLImageProcessorPil:
    """Cuts a frame into patches; frames of 2 x 2 to 32 x 32 visual tokens keep their size."""
    cell = (config.patch_size * _MERGE) ** 2
    return Qwen2VLImageProcessorPil(
        patch_size=config.patch_size,
        merge_size=_MERGE,
        temporal_patch_size=2,
        size={"shortest_edge": 4 * cell, "longest_edge": 1024 * cell},
    )


def model_config(config: TinyConfig, rows: int, special_ids: Mapping[str, int] | None = None) -> Any:
    """The Hugging Face configuration of the small model.

    Args:
        config: the shape.
        rows: of the embedding matrix.
        special_ids: ids of `SPECIAL_TOKENS`; None takes the last rows.
    """
    ids = special_ids or {token: rows - len(SPECIAL_TOKENS) + i for i, token in enumerate(SPECIAL_TOKENS)}
    half_head = config.hidden_size // config.heads // 2
    temporal = half_head // 4
    height = (half_head - temporal) // 2
    text: dict[str, Any] = {
        "vocab_size": rows,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "max_position_embeddings": _MAX_POSITIONS,
        "tie_word_embeddings": True,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [temporal, height, half_head - temporal - height],
        },
    }
    vision: dict[str, Any] = {
        "depth": config.vision_depth,
        "num_heads": config.vision_width // 32 or 1,
        "patch_size": config.patch_size,
        "spatial_merge_size": _MERGE,
        "temporal_patch_size": 2,
        "in_channels": 3,
    }
    if config.family == "qwen2_vl":
        vision |= {"embed_dim": config.vision_width, "hidden_size": config.hidden_size, "mlp_ratio": 2}
    else:
        vision |= {
            "hidden_size": config.vision_width,
            "out_hidden_size": config.hidden_size,
            "intermediate_size": 2 * config.vision_width,
        }
    if config.family == "qwen2_5_vl":
        vision |= {"window_size": 8 * config.patch_size, "fullatt_block_indexes": [config.vision_depth - 1]}
    if config.family == "qwen3_vl":
        text["head_dim"] = 2 * half_head
        text["rope_parameters"]["mrope_interleaved"] = True
        vision |= {"num_position_embeddings": 256, "deepstack_visual_indexes": [0]}
    return AutoConfig.for_model(
        config.family,
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
    )


def _initialize(config: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        # The library's std of 0.02 suits widths in the thousands. At a width of 128 it leaves the image all but
        # invisible to the language model; 1 / sqrt(fan-in) keeps the scale of activations through every layer.
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and not name.endswith("lm_head"):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            elif isinstance(module, nn.Conv3d):
                fan_in = module.in_channels * math.prod(module.kernel_size)
                nn.init.normal_(module.weight, std=fan_in**-0.5)
    return model
