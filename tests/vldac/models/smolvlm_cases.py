"""A random SmolVLM or Idefics3 of a hundred thousand parameters, as a Hugging Face directory of the released layout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

# In the order of the released models: SmolLM2's own before the vocabulary, those of pictures after it.
LANGUAGE_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>")
PICTURE_TOKENS = (
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
)
TILE, PATCH, SCALE = 32, 8, 2
TOKENS_A_TILE = (TILE // PATCH) ** 2 // SCALE**2
MODEL_TYPES = ("smolvlm", "idefics3")


def train_tokenizer(texts: Iterable[str], vocabulary: int = 320) -> PreTrainedTokenizerFast:
    """A byte-level BPE with digits apart, of `vocabulary` entries before the tokens of pictures."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(LANGUAGE_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(PICTURE_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        extra_special_tokens=["<fake_token_around_image>", "<image>", "<end_of_utterance>"],
        chat_template=DEFAULT_CHAT_TEMPLATE,
    )


def build(directory: Path, texts: Iterable[str], model_type: str = "smolvlm") -> Path:
    """Writes the directory: pictures are scaled to 64 pixels and cut into tiles of 32, each of 4 visual tokens."""
    tokenizer = train_tokenizer(texts)
    config = AutoConfig.for_model(
        model_type,
        text_config={
            "model_type": "llama",
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": TILE,
            "patch_size": PATCH,
        },
        scale_factor=SCALE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    initialise(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    processor = Idefics3ImageProcessorPil if model_type == "idefics3" else SmolVLMImageProcessorPil
    pictures = processor(size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE})
    pictures.save_pretrained(directory)
    return directory


def initialise(config: Any) -> Any:
    """Wide enough that pictures and single tokens show in every log-probability."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.5)
    return model
