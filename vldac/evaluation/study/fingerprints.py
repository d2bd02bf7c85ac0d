"""What decides a result of a study besides the code: of a base model, an evaluation and a benchmark."""

from __future__ import annotations

import hashlib
import json

from vldac.config import Config


def base_fingerprint(config: Config) -> str:
    """A 16-digit hash of every value that decides a base model."""
    environment = {"id", "frames", "history", "width", "height", "prompt", "prompt_template", "max_steps", "options"}
    asked = {"prompt", "history"} if config.warm_start.mixture else environment
    deciding = config.model_dump(
        mode="json",
        include={
            "seed": True,
            "model": {"base", "revision", "tiny", "family", "thinking", "system_message", "max_pixels"},
            "env": asked - config.env.absent,
            "warm_start": True,
            "rollout": {"temperature", "max_new_tokens"},
        },
        exclude={"warm_start": config.warm_start.absent},
    )
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def evaluation_fingerprint(config: Config) -> str:
    """A 16-digit hash of every value that decides what an evaluation plays, and how answers are sampled."""
    deciding = [
        config.seed,
        config.env.id,
        config.env.make_options,
        config.rollout.temperature,
        config.rollout.max_new_tokens,
        config.rollout.stop_at_answer,
        config.evaluate.episodes,
        config.model.dtype,
        *([config.env.history] if config.env.history else []),
    ]
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def benchmark_fingerprint(name: str, config: Config) -> str:
    """A 16-digit hash of every value that decides what a benchmark asks, and how answers are given."""
    read = config.model.model_dump(include={"dtype", "family", "thinking", "system_message", "max_pixels"})
    deciding = [name, config.benchmarks, config.env.prompt, read]
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]
