"""What a configuration will do, before it does it: steps, updates, memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from vldac.config import Config
from vldac.engines.vllm import VLLMOptions
from vldac.memory import room
from vldac.models.registry import adapter_for
from vldac.models.token_scores import CHUNK

#: Numbers in a bucket of ZeRO: its own default, which is for models of billions.
LARGEST_BUCKET = 500_000_000
_BYTES = {"float32": 4, "bfloat16": 2}
#: Tokens of text in a prompt.
_TEXT = 100


def plan(config: Config) -> dict[str, Any]:
    """Counts a run's work and estimates the memory of one rank.

    Activations are those of the longest pass that the limits allow (`train.token_budget`, or `train.micro_batch_size`
    steps of a frame or several, a hundred tokens of text and the longest response, and as much text again for each
    exchange of the history), at 12 hidden and 4 intermediate
    numbers a token and layer, of which gradient checkpointing keeps one and one layer's; measured at the shapes of a 7B
    model, 6.5 to 11 MiB a token are 1 to 1.6 times that.

    Args:
        config: the run.

    Returns:
        Numbers in plain units; "memory" in MiB per rank, or the reason why it is unknown.
    """
    train = config.train
    per_update = config.steps_per_update
    return {
        "environment_steps": config.updates * per_update,
        "updates": config.updates,
        "environment_steps_per_update": per_update,
        "optimizer_steps": config.updates * train.epochs * (per_update // train.batch_size),
        "updates_of_the_value_head_alone": min(train.value_warmup, config.updates),
        "ranks": config.deepspeed.ranks,
        "num_envs_per_rank": config.env.num_envs // config.deepspeed.ranks,
        "checkpoints_kept": config.checkpoint.keep,
        "memory": _memory(config, config.model.base),
    }


def _memory(config: Config, base: str) -> dict[str, float] | str:
    try:
        described = _describe(config, base)
    except OSError:
        return f"unknown until the model is on this machine: hf download {base}"
    except ValueError as error:
        return f"unknown: {str(error).splitlines()[0]}"
    return memory(config, described)


def memory(config: Config, described: Any, counts: tuple[int, int] | None = None) -> dict[str, float]:
    """The memory of one rank, in MiB.

    Args:
        config: the run.
        described: the Hugging Face configuration of its model.
        counts: parameters of the model, and of its adapter, where they are known.

    Returns:
        Numbers by name: "total_mib" of the device and its parts, and "host_mib" of the host besides. Whether there is
        "gradient_checkpointing": with `auto`, where the plan would otherwise exceed what this machine has for a rank.
        At ZeRO stage 3, whether there are "weights_gathered_once" for a rollout: where whole ones fit as well.
    """
    counts, wanted = counts or _count(config, described), config.train.gradient_checkpointing
    available = room(config.deepspeed.ranks // config.deepspeed.nodes) * (1 - _sampler_share(config))
    planned = _of_rank(config, described, *counts, checkpointing=wanted is True)
    if wanted == "auto" and needed(planned) > available:
        planned = _of_rank(config, described, *counts, checkpointing=True)
    if config.deepspeed.zero_stage == 3:
        others = (config.deepspeed.ranks - 1) * planned["weights_mib"]
        planned["weights_gathered_once"] = needed(planned) + others <= available
    return planned


def _sampler_share(config: Config) -> float:
    """Of a rank's GPU, what another engine takes that samples beside it."""
    if config.rollout.engine != "vllm":
        return 0.0
    options = VLLMOptions.model_validate(config.rollout.engine_options)
    return 0.0 if options.devices else options.memory_share


def needed(planned: Mapping[str, float]) -> float:
    """The MiB of a plan of which `vldac.memory.room` must be more: without a GPU, the host holds everything."""
    return planned["total_mib"] + (0 if torch.cuda.is_available() else planned["host_mib"])


def _of_rank(config: Config, described: Any, parameters: int, adapter: int, *, checkpointing: bool) -> dict[str, float]:
    ranks, stage = config.deepspeed.ranks, config.deepspeed.zero_stage
    width = _BYTES[config.model.dtype]
    trained = adapter or parameters
    # Adam keeps two float32 moments, and in bfloat16 a float32 copy of the weights; ZeRO 1 shares them out over
    # ranks, ZeRO 2 the gradients as well, ZeRO 3 the weights.
    state = trained * (8 + (4 if width == 2 else 0)) / (ranks if stage >= 1 else 1)
    frozen = config.train.kl_coefficient > 0 and config.train.kl_to == "reference" and not adapter
    shards = ranks if stage == 3 else 1
    sizes = {
        "weights": (parameters + adapter) * width / shards,
        "gradients": trained * 4 / (ranks if stage >= 2 else 1),
        "optimizer": 0 if config.deepspeed.offload_optimizer and stage else state,
        "activations": _activations(config, described, checkpointing=checkpointing),
        "distributions": _distributions(config, described, adapter),
        # Adam's steps are made of whole lists of tensors, and ZeRO fills a bucket of gradients before it reduces them.
        "optimizer_step": 4 * trained / (ranks if stage >= 1 else 1),
        "bucket": width * min(trained, LARGEST_BUCKET) if stage >= 1 else 0,
        "picture_features": _features(config, described) if adapter else 0,
    }
    if config.deepspeed.offload_optimizer and stage:
        sizes["optimizer_step"] = 0
    # The reference policy of full fine-tuning is on the device in the place of the weights alone.
    reference = parameters * width / shards if frozen else 0
    offloaded = state if config.deepspeed.offload_optimizer and stage else 0
    sizes |= {
        "total": sum(sizes.values()),
        "host": reference + offloaded,
        "host_while_loading": parameters * width + offloaded,
    }
    counted = {"parameters": parameters, "trained_parameters": trained, "gradient_checkpointing": checkpointing}
    return counted | {f"{name}_mib": round(size / 2**20, 1) for name, size in sizes.items()}


def _distributions(config: Config, described: Any, adapter: int) -> float:
    """Bytes of the distributions that are in memory at once, and of the head in float32 where it is less."""
    text = described.get_text_config()
    numbers = config.train.micro_batch_size * config.rollout.max_new_tokens * text.vocab_size
    # Shards of a head that is trained are gathered once for all positions (`vldac.models.vlm.VLM.forward`).
    at_once = config.deepspeed.zero_stage == 3 and config.deepspeed.ranks > 1 and not adapter
    head = 4 * text.hidden_size * text.vocab_size if config.model.dtype != "float32" else 0
    return float(5 * 4 * (numbers if at_once else min(CHUNK, numbers)) + head)


def _features(config: Config, described: Any) -> float:
    """Bytes of what the vision tower has said of a rollout's pictures, which is kept with an adapter."""
    env = config.env
    family = adapter_for(described.model_type, config.model.family)
    tokens = env.frames * family.picture_tokens(described, env.height, env.width)
    steps = config.steps_per_update // config.deepspeed.ranks
    return float(steps * tokens * described.get_text_config().hidden_size * _BYTES[config.model.dtype])


def _activations(config: Config, described: Any, *, checkpointing: bool) -> float:
    """Bytes that one pass with gradient keeps for its backward pass."""
    text, env, train = described.get_text_config(), config.env, config.train
    family = adapter_for(described.model_type, config.model.family)
    earlier = env.history * (_TEXT + config.rollout.max_new_tokens)
    longest = earlier + env.frames * family.picture_tokens(described, env.height, env.width) + _TEXT
    step = longest + config.rollout.max_new_tokens
    tokens = train.micro_batch_size * step
    if train.token_budget is not None:
        tokens = min(tokens, max(train.token_budget, step))  # a longer step has a pass of its own
    of_layer = 12 * text.hidden_size + 4 * text.intermediate_size
    numbers = text.num_hidden_layers * of_layer
    if checkpointing:
        numbers = text.num_hidden_layers * text.hidden_size + of_layer
    return float(tokens * numbers * _BYTES[config.model.dtype])


def _describe(config: Config, base: str) -> Any:
    """The Hugging Face configuration of a model.

    Raises:
        OSError: it is not on this machine.
        ValueError: transformers does not know it.
    """
    if base == "tiny":
        from vldac.models.tiny import model_config  # noqa: PLC0415  # only this branch needs tokenizers

        return model_config(config.model.tiny, rows=config.model.tiny.vocabulary)
    return AutoConfig.from_pretrained(
        base, revision=config.model.revision, local_files_only=True, trust_remote_code=False
    )


def _count(config: Config, described: Any) -> tuple[int, int]:
    """Parameters of the model, and of its adapter (0 without one), without allocating either."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(described)
    total = sum(p.numel() for p in model.parameters())
    rank = config.model.lora_rank
    targets = adapter_for(described.model_type, config.model.family).lora_targets
    adapter = sum(
        rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if rank and re.fullmatch(targets, name)
    )
    return total, adapter
