"""What a configuration will do, before it does it: steps, updates, memory."""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from vldac.config import Config
from vldac.models.registry import adapter_for

_BYTES = {"float32": 4, "bfloat16": 2}


def plan(config: Config) -> dict[str, Any]:
    """Counts a run's work and estimates the memory of one rank's weights, gradients and optimizer state.

    Activations are left out: they depend on the length of prompts and are bounded by `train.micro_batch_size`.

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
        parameters, adapter = _count(config, base)
    except OSError:
        return f"unknown until the model is on this machine: hf download {base}"
    except ValueError as error:
        return f"unknown: {str(error).splitlines()[0]}"
    ranks, stage = config.deepspeed.ranks, config.deepspeed.zero_stage
    width = _BYTES[config.model.dtype]
    trained = adapter or parameters
    weights = float((parameters + adapter) * width)
    if config.train.kl_coefficient and not adapter:
        weights += parameters * width  # the frozen reference policy
    # Adam keeps two float32 moments, and in bfloat16 a float32 copy of the weights; ZeRO 1 shares them out over
    # ranks, ZeRO 2 the gradients as well, ZeRO 3 the weights.
    state = trained * (8 + (4 if width == 2 else 0)) / (ranks if stage >= 1 else 1)
    gradients = trained * 4 / (ranks if stage >= 2 else 1)
    weights /= ranks if stage == 3 else 1
    mib = {"weights": weights, "gradients": gradients, "optimizer": state, "total": weights + gradients + state}
    return {"parameters": parameters, "trained_parameters": trained} | {
        f"{name}_mib": round(size / 2**20, 1) for name, size in mib.items()
    }


def _count(config: Config, base: str) -> tuple[int, int]:
    """Parameters of the model, and of its adapter (0 without one), without allocating either."""
    if base == "tiny":
        from vldac.models.tiny import model_config  # noqa: PLC0415  # only this branch needs tokenizers

        model_configuration = model_config(config.model.tiny, rows=config.model.tiny.vocabulary)
    else:
        model_configuration = AutoConfig.from_pretrained(
            base, revision=config.model.revision, local_files_only=True, trust_remote_code=False
        )
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(model_configuration)
    total = sum(p.numel() for p in model.parameters())
    rank = config.model.lora_rank
    targets = adapter_for(model_configuration.model_type, config.model.family).lora_targets
    adapter = sum(
        rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if rank and re.fullmatch(targets, name)
    )
    return total, adapter
