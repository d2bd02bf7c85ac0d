"""The configuration of a run: params.yaml as typed, frozen, validated values.

Every field is checked before any work starts. An unknown key, a wrong type or a value out of range raises
`ConfigError` with the key, the reason and, for an unknown key, the nearest valid one.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from vldac.algorithms.registry import ALGORITHMS, check_options
from vldac.config import presets, strict_yaml
from vldac.config.errors import explain
from vldac.config.presets import PresetError
from vldac.config.strict_yaml import YAMLTextError
from vldac.config.texts import TemplateFileError, with_template
from vldac.engines.registry import ENGINES
from vldac.engines.registry import check_options as check_engine_options
from vldac.utils.errors import UserError

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]


class ConfigError(UserError, ValueError):
    """A params file that cannot be run, with one line for each thing wrong in it."""


class _Section(BaseModel):
    # Strict: "16" is not 16 and true is not 1. Only an integer written where a float belongs is taken as one.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class TinyConfig(_Section):
    """Shape of the small model built on the machine (`vldac.models.tiny`)."""

    family: Literal["qwen2_vl", "qwen2_5_vl", "qwen3_vl"] = "qwen2_vl"
    hidden_size: Positive = 128
    layers: Positive = 4
    heads: Positive = 4
    kv_heads: Positive = 2
    intermediate_size: Positive = 384
    vision_depth: Positive = 2
    vision_width: Positive = 128
    patch_size: Annotated[int, Field(ge=2, le=32)] = 8
    vocabulary: Annotated[int, Field(ge=320, le=65536)] = 512

    @model_validator(mode="after")
    def _divisible(self) -> TinyConfig:
        if self.hidden_size % (8 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 8 x heads ({8 * self.heads})")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.vision_width % 16:
            raise ValueError(f"vision_width {self.vision_width} must be a multiple of 16")
        return self


class ModelConfig(_Section):
    """Which vision-language model, and which of its weights are trained."""

    base: Annotated[str, Field(min_length=1)] = "tiny"
    revision: str | None = None
    family: str | None = None
    thinking: bool | None = None
    system_message: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    max_pixels: Positive | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora_rank: NonNegative = 16
    lora_alpha: Positive = 32
    tiny: TinyConfig = TinyConfig()


_Scalar = bool | int | float | str | None
_OptionValue = _Scalar | tuple[_Scalar, ...]


class EnvConfig(_Section):
    """Which simulator, how many of them, and what the model is shown."""

    id: Annotated[str, Field(min_length=1)] = "MiniWorld-OneRoomS6Fast-v0"
    frames: Annotated[int, Field(ge=1, le=32)] = 1
    history: Annotated[int, Field(ge=0, le=32)] = 0
    width: Annotated[int, Field(ge=16, le=2048)] = 64
    height: Annotated[int, Field(ge=16, le=2048)] = 48
    prompt: Literal["full", "terse"] = "terse"
    #: Its text; in a params file, the path of a file that has it (`vldac.config.texts`).
    prompt_template: str | None = None
    invalid_reward: Annotated[float, Field(allow_inf_nan=False)] | None = None
    num_envs: Positive = 16
    num_workers: Positive = 2
    step_deadline: PositiveFloat = 60.0
    max_steps: Positive | None = None
    expert_start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    reward_scale: PositiveFloat = 1.0
    options: dict[str, _OptionValue | dict[str, _OptionValue]] = Field(default_factory=dict)

    @field_validator("prompt_template")
    @classmethod
    def _template_is_sound(cls, text: str | None) -> str | None:
        if text is not None:
            from envs.templates import Template  # noqa: PLC0415  # without one, no simulator need be imported

            Template(text)
        return text

    @property
    def absent(self) -> set[str]:
        """What this section does not use, and which is no part of a run's identity therefore."""
        return set() if self.history else {"history"}

    @property
    def make_options(self) -> dict[str, Any]:
        """Keyword arguments of `envs.registry.make`, which makes one simulator."""
        names = {
            "width",
            "height",
            "frames",
            "prompt",
            "prompt_template",
            "invalid_reward",
            "max_steps",
            "reward_scale",
            "expert_start",
        }
        return self.model_dump(include=names | {"options"})


class MixturePart(_Section):
    """An environment of a mixture that the small model sees before it is trained in any."""

    id: Annotated[str, Field(min_length=1)]
    share: PositiveFloat = 1.0
    width: Annotated[int, Field(ge=16, le=2048)] = 64
    height: Annotated[int, Field(ge=16, le=2048)] = 64
    options: dict[str, _OptionValue | dict[str, _OptionValue]] = Field(default_factory=dict)
    expert_walk: UnitInterval = 0.0
    expert_actions: UnitInterval = 0.0

    def make_options(self, prompt: str) -> dict[str, Any]:
        """Keyword arguments of `envs.registry.make`, which makes one simulator."""
        return {"width": self.width, "height": self.height, "options": self.options, "prompt": prompt}


class LessonsPart(_Section):
    """Examples of a mixture that come from elsewhere than a simulator: see `vldac.examples.Lessons`."""

    id: str
    share: PositiveFloat = 1.0
    options: dict[str, _OptionValue] = Field(default_factory=dict)

    @field_validator("id")
    @classmethod
    def _names_a_class(cls, name: str) -> str:
        module, _, attribute = name.partition(":")
        if not (attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise ValueError(f"{name!r} names no class; write 'module:Class', such as 'my_module:MyLessons'")
        return name


class WarmStartConfig(_Section):
    """Supervised warm start: true descriptions, uniformly random actions."""

    updates: NonNegative = 600
    batch_size: Positive = 32
    learning_rate: PositiveFloat = 5e-4
    expert_walk: UnitInterval = 0.0
    expert_actions: UnitInterval = 0.0
    pictures: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixture: tuple[MixturePart, ...] = ()
    lessons: tuple[LessonsPart, ...] = ()
    examples: Positive = 8192
    dense_updates: NonNegative = 0

    @property
    def absent(self) -> set[str]:
        """The keys that fingerprints leave out: without lessons, they are those of before there could be any."""
        return set() if self.lessons else {"lessons"}

    @model_validator(mode="after")
    def _lessons_join_a_mixture(self) -> WarmStartConfig:
        if self.lessons and not self.mixture:
            raise ValueError("lessons have their share of a mixture; name its environments in warm_start.mixture")
        return self


class RolloutConfig(_Section):
    """How experience is collected. The same temperature is in the log-probabilities."""

    engine: Annotated[str, Field(min_length=1)] = "transformers"
    engine_options: dict[str, Any] = Field(default_factory=dict)
    steps: Positive = 16
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.7
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 24
    stop_at_answer: bool = False
    double_buffering: bool = False

    @model_validator(mode="after")
    def _engine_exists(self) -> RolloutConfig:
        ENGINES.entry_point(self.engine)
        if self.engine_options:  # without any, the engine and its model library need not be imported
            check_engine_options(self.engine, self.engine_options)
        return self


class TrainConfig(_Section):
    """What is learned from a rollout, and how. An algorithm reads those values that concern it."""

    algorithm: Annotated[str, Field(min_length=1)] = "vldac"
    algorithm_options: dict[str, Any] = Field(default_factory=dict)
    total_steps: Positive = 8192
    stop_at: UnitInterval | None = 0.98
    gamma: UnitInterval = 0.95
    gae_lambda: UnitInterval = 0.95
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    kl_coefficient: NonNegativeFloat = 0.05
    kl_to: Literal["reference", "old"] = "reference"
    value_coefficient: PositiveFloat = 0.5
    epochs: Positive = 2
    batch_size: Positive = 32
    old_scores: Literal["auto", "sampled", "computed"] = "auto"
    importance_cap: PositiveFloat | None = 2.0
    micro_batch_size: Positive = 32
    token_budget: Positive | None = None
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    value_warmup: NonNegative = 2
    learning_rate: PositiveFloat = 1e-3
    final_learning_rate: NonNegativeFloat = 3e-4
    value_learning_rate: PositiveFloat = 1e-3
    value_hidden_sizes: tuple[Positive, ...] = (256, 256)
    max_grad_norm: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _algorithm_exists(self) -> TrainConfig:
        ALGORITHMS.entry_point(self.algorithm)
        if self.algorithm_options:  # without any, the algorithm and its model library need not be imported
            check_options(self.algorithm, self.algorithm_options)
        return self


class DeepSpeedConfig(_Section):
    """How the learner is spread over processes and devices."""

    ranks: Positive = 2
    nodes: Positive = 1
    launcher: Literal["local", "torchrun", "slurm"] = "local"
    rendezvous: Annotated[str, Field(pattern=r"^[\w.:\[\]-]+:\d{1,5}$")] | None = None
    timeout: PositiveFloat = 1800.0
    zero_stage: Literal[0, 1, 2, 3] = 1
    offload_optimizer: bool = False
    threads: NonNegative = 1

    @model_validator(mode="after")
    def _ranks_fit_nodes(self) -> DeepSpeedConfig:
        if self.ranks % self.nodes:
            raise ValueError(f"ranks {self.ranks} must be a multiple of nodes {self.nodes}")
        if self.nodes > 1 and self.launcher == "local":
            raise ValueError(f"nodes {self.nodes} need launcher torchrun or slurm")
        if self.launcher == "torchrun" and self.nodes > 1 and self.rendezvous is None:
            raise ValueError("launcher torchrun needs rendezvous, the host:port at which the nodes meet")
        return self


class CheckpointConfig(_Section):
    """How often a run can be resumed from, and which of its policies are kept for good."""

    every: Positive = 5
    keep: Positive = 2
    export_every: NonNegative = 0


class TrackingConfig(_Section):
    """What follows a run's metrics beside MLflow (`vldac.trackers`); it decides nothing of the run."""

    tensorboard: bool = False
    wandb: bool = False


class EvaluateConfig(_Section):
    """Episodes on seeds that training never draws."""

    episodes: Positive = 200
    num_envs: Positive = 32
    checkpoint_episodes: Positive = 32


class Config(_Section):
    """A whole run. `load` reads it from params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    model: ModelConfig = ModelConfig()
    env: EnvConfig = EnvConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    rollout: RolloutConfig = RolloutConfig()
    train: TrainConfig = TrainConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    #: As it is written: the method knows no benchmark, and `benchmarks.harness.section` validates it for the pipeline.
    benchmarks: dict[str, JsonValue] = Field(default_factory=dict)
    extensions: str = "extensions"

    @model_validator(mode="after")
    def _sizes_fit(self) -> Config:
        ranks, train = self.deepspeed.ranks, self.train
        if self.env.num_workers > self.env.num_envs:
            raise ValueError(f"env.num_workers {self.env.num_workers} exceeds env.num_envs {self.env.num_envs}")
        for name, value in (("env.num_envs", self.env.num_envs), ("train.batch_size", train.batch_size)):
            if value % ranks:
                raise ValueError(
                    f"{name} {value} must be a multiple of deepspeed.ranks {ranks}, which share it; set "
                    "deepspeed.ranks to 1, or change it"
                )
        if self.rollout.double_buffering and self.env.num_envs < 2 * ranks:
            raise ValueError(
                f"env.num_envs {self.env.num_envs} must be two at least for each of deepspeed.ranks {ranks} with "
                "rollout.double_buffering, which halves them"
            )
        if self.steps_per_update % train.batch_size:
            raise ValueError(
                f"one rollout is {self.steps_per_update} environment steps (env.num_envs {self.env.num_envs} x "
                f"rollout.steps {self.rollout.steps}); it must be a multiple of train.batch_size {train.batch_size}"
            )
        if train.old_scores == "sampled" and self.model.dtype != "float32":
            raise ValueError(
                f"train.old_scores sampled is exact in float32 alone, and model.dtype is {self.model.dtype}"
            )
        if train.final_learning_rate > train.learning_rate:
            raise ValueError(
                f"train.final_learning_rate {train.final_learning_rate} exceeds train.learning_rate "
                f"{train.learning_rate}"
            )
        return self

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one rollout over all ranks."""
        return self.env.num_envs * self.rollout.steps

    @property
    def updates(self) -> int:
        """Rollouts of the whole run; the last one completes `train.total_steps`."""
        return -(-self.train.total_steps // self.steps_per_update)

    @property
    def exported_updates(self) -> list[int]:
        """Updates after which a policy is exported besides the last one."""
        every = self.checkpoint.export_every
        return list(range(every, self.updates, every)) if every else []

    def deciding(self) -> dict[str, Any]:
        """Every value that decides the weights, as JSON values.

        Over how many ranks, processes, groups and passes the work is spread changes rounding and nothing else. What the
        options of an engine from outside change is not known; those of the project's own say where it runs.
        """
        own = ENGINES.entry_point(self.rollout.engine).startswith("vldac.")
        return self.model_dump(
            mode="json",
            exclude={
                "evaluate": True,
                "benchmarks": True,
                "checkpoint": True,
                "tracking": True,
                "extensions": True,
                "env": {"step_deadline", "num_workers"} | self.env.absent,
                "warm_start": self.warm_start.absent,
                "rollout": {"double_buffering", *(["engine_options"] if own else [])},
                "train": {"micro_batch_size", "token_budget", "gradient_checkpointing"},
                "deepspeed": True,
            },
        )

    def fingerprint(self, *extra: str) -> str:
        """A 16-digit hash of every value that decides the weights, with `extra` (such as the base model's hash)."""
        text = json.dumps([self.deciding(), *extra], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


#: Keys of a params file that may name a preset.
_SECTIONS = frozenset(
    name
    for name, field in Config.model_fields.items()
    if name == "benchmarks" or (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
)


def parse(values: Mapping[str, Any]) -> Config:
    """Validates a mapping of params.yaml's shape.

    Raises:
        ConfigError: one line for each wrong key or value.
    """
    try:
        tuples = {key: value if key == "benchmarks" else _tuples(value) for key, value in values.items()}
        return Config.model_validate(tuples)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(e, Config) for e in error.errors())) from None


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Reads a params file, applies `section.key=value` overrides to it and reads the presets that it names.

    `vldac.config.presets` has the rule; an override such as `env=numberline` names a preset, one such as `env.frames=2`
    after it changes a value of it.

    Args:
        path: of the params file. None takes params.yaml of the current directory, and the defaults where there is none,
            which is said on stderr.
        overrides: `section.key=value`, applied in their order.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds wrong keys, values or presets.
    """
    values, path = read(path, overrides)
    try:
        return parse(with_template(values))
    except (ConfigError, TemplateFileError) as error:
        raise _in_file(path, error) from None


def read(path: str | Path | None = None, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Path]:
    """The values of a params file as `load` checks them, and its path: presets are read, a prompt template is a path.

    Raises:
        ConfigError: see `load`.
    """
    optional, path = path is None, Path(path or "params.yaml")
    try:
        if optional and not path.exists():
            _say_once(f"there is no {path} here; every value is its default, or as --set gives it")
            values = {}
        else:
            values = strict_yaml.read(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except YAMLTextError as error:
        raise ConfigError(f"{path}: {error}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, not a {type(values).__name__}")
    for override in overrides:
        _apply_override(values, override)
    try:
        return presets.resolve(values, _SECTIONS, presets.folder_of(path)), path
    except PresetError as error:
        raise _in_file(path, error) from None


def _in_file(path: Path, error: Exception) -> ConfigError:
    return ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines()))


def _say_once(line: str) -> None:
    """Prints a line on stderr, unless this is one of several ranks whose launcher has printed it."""
    if "RANK" not in os.environ:
        print(line, file=sys.stderr)


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} must look like train.gamma=0.9")
    *sections, leaf = key.split(".")
    node = values
    for section in sections:
        if isinstance(node.get(section), str) and section in _SECTIONS and node is values:
            node[section] = {presets.KEY: node[section]}
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise ConfigError(f"override {override!r}: {section} is a value, not a section")
    try:
        node[leaf] = strict_yaml.parse(text)
    except YAMLTextError as error:
        raise ConfigError(f"override {key}={text[:40]}: {error}") from None


def _tuples(value: Any) -> Any:
    """YAML has lists where the frozen configuration has tuples, and reads 5e-4 (no dot) as text."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value
