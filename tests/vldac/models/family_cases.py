"""Random models of a hundred thousand parameters of the larger families, as directories of the released layout.

Pictures are one tile of 4 visual tokens (5 where a token ends them), or patches of 8 pixels merged 2 x 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from smolvlm_cases import initialise
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import AutoConfig, PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

FAMILIES = ("gemma3", "internvl", "llava_onevision", "qwen3_5")
TILE, PATCH = 32, 8
CORPUS = ["go there. what is it?", "number line. move current to target. actions: -, +.", "user assistant model"] * 5
_QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
#: In the order of the released models; the first ends a text, the second a turn. Those after "" are no special ones.
TOKENS = {
    "gemma3": (
        *("<pad>", "<end_of_turn>", "<eos>", "<bos>", "<unk>", "<start_of_turn>"),
        *("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
    ),
    "internvl": ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
    "llava_onevision": ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<image>", "<video>"),
    "qwen3_5": (
        *("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
        *("<|image_pad|>", "<|video_pad|>", "", "<think>", "</think>"),
    ),
}
_CHATML = (
    "{%% for message in messages %%}<|im_start|>{{ message['role'] }}\n{%% for part in message['content'] %%}"
    "{%% if part['type'] == 'image' %%}%s{%% else %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}<|im_end|>\n"
    "{%% endfor %%}{%% if add_generation_prompt %%}<|im_start|>assistant\n%s{%% endif %%}"
)
_THINK = (
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
)
#: What the released ones write, without tools, videos and strings for contents.
TEMPLATES = {
    "gemma3": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set prefix = messages[0]['content'][0]['text'] + "
        "'\n\n' %}{% set turns = messages[1:] %}{% else %}{% set prefix = '' %}{% set turns = messages %}{% endif %}"
        "{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}<start_of_turn>"
        "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{{ prefix if loop.first else '' }}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>"
        "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    "internvl": _CHATML % ("<IMG_CONTEXT>\n", ""),
    "llava_onevision": (
        "{% for message in messages %}<|im_start|>{{ message['role'] }} {% for part in message['content'] "
        "| selectattr('type', 'equalto', 'image') %}<image>{% endfor %}{% for part in message['content'] "
        "| selectattr('type', 'equalto', 'text') %}{{ '\n' + part['text'] }}{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "qwen3_5": _CHATML % ("<|vision_start|><|image_pad|><|vision_end|>", _THINK),
}
_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_SIGLIP: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vision_use_head": False,
    "patch_size": PATCH,
}


def train_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE that ends in the tokens of the family."""
    special, _, plain = " ".join(TOKENS[family]).partition("  ")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(special.split())
    tokenizer.add_tokens(plain.split())
    end_of_text, end_of_turn, *_ = special.split()
    extra = {
        "gemma3": {
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "bos_token": "<bos>",
        },
        "internvl": {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    }.get(family, {})
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end_of_turn,
        pad_token=end_of_text,
        extra_special_tokens=extra,
        chat_template=TEMPLATES[family],
    )


def model_config(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Two layers, one of each kind where a family has two."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in TOKENS[family] if token}
    text = _TEXT | {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    if family == "gemma3":
        text |= {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
        return AutoConfig.for_model(
            family,
            text_config=text,
            vision_config=_SIGLIP | {"image_size": TILE},
            mm_tokens_per_image=4,
            image_token_index=ids["<image_soft_token>"],
            boi_token_index=ids["<start_of_image>"],
            eoi_token_index=ids["<end_of_image>"],
            eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
        )
    if family == "internvl":
        vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        return AutoConfig.for_model(
            family,
            text_config={"model_type": "qwen2"} | text,
            vision_config=vision | {"image_size": TILE, "patch_size": PATCH},
            image_token_id=ids["<IMG_CONTEXT>"],
            image_seq_length=4,
            tie_word_embeddings=False,
        )
    if family == "llava_onevision":
        return AutoConfig.for_model(
            family,
            text_config={"model_type": "qwen2"} | text,
            vision_config=_SIGLIP | {"image_size": TILE // 2},
            image_token_index=ids["<image>"],
            video_token_index=ids["<video>"],
            image_grid_pinpoints=[[16, 16], [16, 32], [32, 16], [32, 32]],
        )
    return AutoConfig.for_model(
        family,
        text_config=text
        | {
            "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": PATCH,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


def image_processor(family: str) -> Any:
    """As the released ones, of smaller tiles; they cut pictures unless they are told otherwise."""
    square = {"height": TILE, "width": TILE}
    if family == "gemma3":
        return Gemma3ImageProcessorPil(size=square)
    if family == "internvl":
        return GotOcr2ImageProcessorPil(size=square, crop_to_patches=True)
    if family == "llava_onevision":
        half = {"height": TILE // 2, "width": TILE // 2}
        grid = [[16, 16], [16, 32], [32, 16], [32, 32]]
        return LlavaOnevisionImageProcessorPil(size=half, image_grid_pinpoints=grid)
    size = {"shortest_edge": 4 * (2 * PATCH) ** 2, "longest_edge": 1024 * (2 * PATCH) ** 2}
    return Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=2, temporal_patch_size=2, size=size)


def build(directory: Path, family: str) -> Path:
    """Writes the directory of a model."""
    tokenizer = train_tokenizer(family)
    model = initialise(model_config(family, tokenizer))
    if family == "gemma3":  # whose projector is all zeros before it is trained
        weight = model.model.multi_modal_projector.mm_input_projection_weight
        torch.nn.init.normal_(weight, std=len(weight) ** -0.5, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    image_processor(family).save_pretrained(directory)
    return directory
