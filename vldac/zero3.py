"""ZeRO stage 3 before there is an engine: a model is loaded in parts, so that no device ever holds all of it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from vldac import policy
from vldac.config import Config
from vldac.distributed import Runtime
from vldac.learner import deepspeed_config
from vldac.models.vlm import VLM
from vldac.utils.zero import work_on


def load_base(base: Path, config: Config, runtime: Runtime) -> VLM:
    """The base model of a run: in parts on several ranks at ZeRO stage 3, and whole otherwise.

    In parts, rank 0 reads the files, and every rank keeps its part of each parameter on its own device. Every rank must
    call it. Either way, the same random numbers are drawn afterwards.

    Args:
        base: the base directory.
        config: the run.
        runtime: this rank.

    Raises:
        OSError: nothing is there, it is not what it was when it was pointed to, or the hub cannot be reached.
    """
    if config.deepspeed.zero_stage < 3 or runtime.world_size == 1:
        return policy.load_base(base, config.model)
    work_on(runtime.device)
    held = HfDeepSpeedConfig(deepspeed_config(config, 1, runtime.world_size))  # found as long as it is referred to
    try:
        with torch.random.fork_rng(devices=[]):
            return policy.load_base(base, config.model)
    finally:
        unset_hf_deepspeed_config()
        del held
