"""The configuration of a run: params.yaml as typed, frozen, validated values."""

from vldac.config.errors import explain
from vldac.config.schema import (
    CheckpointConfig,
    Config,
    ConfigError,
    DeepSpeedConfig,
    EnvConfig,
    EvaluateConfig,
    ModelConfig,
    RolloutConfig,
    TinyConfig,
    TrainConfig,
    WarmStartConfig,
    load,
    parse,
)

__all__ = [
    "CheckpointConfig",
    "Config",
    "ConfigError",
    "DeepSpeedConfig",
    "EnvConfig",
    "EvaluateConfig",
    "ModelConfig",
    "RolloutConfig",
    "TinyConfig",
    "TrainConfig",
    "WarmStartConfig",
    "explain",
    "load",
    "parse",
]
