from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from vldac.config import Config, ConfigError, load, parse

REPOSITORY = Path(__file__).parents[2]


def test_the_params_file_of_the_project_holds_the_defaults() -> None:
    path = REPOSITORY / "params.yaml"
    config = load(path)
    assert config.benchmarks  # sizes for a laptop: benchmarks.harness.options has the defaults
    assert config.model_copy(update={"benchmarks": {}}) == Config()
    # Every knob is written down there, so that it can be found without reading the code.
    # Those of the benchmarks are held by tests/pipelines/test_dvc.py.
    written = {key for key in leaves(yaml.safe_load(path.read_text())) if not key.startswith("benchmarks.")}
    assert written == leaves(Config().model_dump())


def leaves(values: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        # Unknown keys name the nearest known one, wherever that is.
        ({"train": {"gama": 0.9}}, ["'train.gama'", "unknown key", "'train.gamma'"]),
        ({"train": {"clip_range": 0.9}}, ["'train.clip_range'", "'train.clip'"]),
        ({"trian": {"gamma": 0.9}}, ["'trian'", "'train'"]),
        ({"gamma": 0.9}, ["'gamma'", "'train.gamma'"]),
        ({"train": {"temperature": 1.0}}, ["'train.temperature'", "'rollout.temperature'"]),
        ({"env": {"steps": 8}}, ["'env.steps'", "'rollout.steps'"]),
        ({"train": {"num_env": 8}}, ["'train.num_env'", "'env.num_envs'"]),
        ({"model": {"tiny": {"hiden_size": 64}}}, ["'model.tiny.hiden_size'", "'model.tiny.hidden_size'"]),
        ({"zzzzzz": 1}, ["unknown key 'zzzzzz'"]),
        # Wrong types name the key, what it should be and what it is.
        ({"train": {"gamma": "0.9"}}, ["train.gamma", "valid number", "'0.9'", "5.0e-4"]),
        ({"train": {"epochs": "2"}}, ["train.epochs", "valid integer", "'2'"]),
        ({"train": {"epochs": 2.5}}, ["train.epochs", "valid integer", "2.5"]),
        ({"train": {"epochs": True}}, ["train.epochs", "valid integer", "True"]),
        ({"train": {"epochs": None}}, ["train.epochs", "None"]),
        ({"train": {"value_hidden_sizes": [16, "x"]}}, ["train.value_hidden_sizes.1", "'x'"]),
        ({"deepspeed": {"offload_optimizer": "no"}}, ["deepspeed.offload_optimizer", "boolean", "'no'"]),
        ({"deepspeed": {"offload_optimizer": 1}}, ["deepspeed.offload_optimizer", "boolean", "1"]),
        ({"env": {"id": 3}}, ["env.id", "string", "3"]),
        ({"train": [1, 2]}, ["train", "dictionary"]),
        # Values out of range name the bound.
        ({"train": {"gamma": 1.5}}, ["train.gamma", "less than or equal to 1", "1.5"]),
        ({"train": {"gamma": float("nan")}}, ["train.gamma", "nan"]),
        ({"train": {"learning_rate": float("inf")}}, ["train.learning_rate", "finite", "inf"]),
        ({"train": {"learning_rate": 0.0}}, ["train.learning_rate", "greater than 0", "0.0"]),
        ({"train": {"clip": 1.0}}, ["train.clip", "less than 1", "1.0"]),
        ({"rollout": {"temperature": 0.0}}, ["rollout.temperature", "greater than 0"]),
        ({"deepspeed": {"zero_stage": 4}}, ["deepspeed.zero_stage", "0, 1, 2 or 3", "4"]),
        ({"env": {"prompt": "long"}}, ["env.prompt", "'full' or 'terse'", "'long'"]),
        ({"seed": -1}, ["seed", "greater than or equal to 0", "-1"]),
        # Values that do not fit each other name both.
        ({"env": {"num_envs": 2, "num_workers": 3}}, ["env.num_workers 3", "env.num_envs 2"]),
        (
            {"env": {"num_envs": 2}, "rollout": {"double_buffering": True}},
            ["env.num_envs 2", "double_buffering", "ranks 2"],
        ),
        ({"train": {"batch_size": 30}}, ["one rollout is 256", "train.batch_size 30"]),
        ({"deepspeed": {"ranks": 3}}, ["env.num_envs 16", "deepspeed.ranks 3"]),
        ({"rollout": {"steps": 3}}, ["train.batch_size 32", "48 environment steps"]),
        ({"train": {"final_learning_rate": 0.1}}, ["train.final_learning_rate 0.1", "train.learning_rate"]),
        ({"model": {"tiny": {"heads": 3}}}, ["model.tiny", "hidden_size 128", "heads"]),
        ({"model": {"tiny": {"kv_heads": 3}}}, ["model.tiny", "heads 4", "kv_heads 3"]),
        ({"model": {"tiny": {"vision_width": 100}}}, ["model.tiny", "vision_width 100", "16"]),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_the_reason(values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(values)
    (line,) = str(caught.value).splitlines()
    for part in parts:
        assert part in line


def test_every_wrong_key_gets_a_line_of_its_own() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"train": {"gama": 1, "epochs": 0}, "seed": "x"})
    assert len(str(caught.value).splitlines()) == 3


def test_an_integer_is_taken_where_a_float_belongs() -> None:
    assert parse({"train": {"gamma": 1}}).train.gamma == 1.0


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [", "not valid YAML"),
        ("- 1\n- 2\n", "must hold a mapping"),
        ("\x00", "not valid YAML"),
        ("train:\n  gama: 1\n", "did you mean 'train.gamma'?"),
    ],
)
def test_a_params_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(str(path))
    assert part in line


def test_a_missing_params_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        load(tmp_path / "nowhere.yaml")


def test_an_empty_params_file_means_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("")
    assert load(path) == Config()


def test_overrides_replace_single_values(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train: {gamma: 0.5}\n")
    config = load(path, ["train.gamma=0.7", "env.prompt=full", "train.value_hidden_sizes=[8]", "seed=4"])
    assert (config.train.gamma, config.env.prompt, config.train.value_hidden_sizes, config.seed) == (
        0.7,
        "full",
        (8,),
        4,
    )


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.gamma", "must look like"),
        ("=3", "must look like"),
        ("seed.x=3", "seed is a value"),
        ("train.gamma=[", "is not valid YAML"),
        ("train.gama=0.5", "did you mean 'train.gamma'?"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, part: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(ConfigError) as caught:
        load(path, [override])
    assert part in str(caught.value)


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.gamma = 0.5  # what is tested


def changed(value: Any, key: str) -> Any:
    """Another valid value for a key of the defaults."""
    special = {
        "model.base": "elsewhere",
        "model.revision": "main",
        "model.dtype": "bfloat16",
        "model.tiny.family": "qwen3_vl",
        "model.tiny.hidden_size": 64,
        "model.tiny.heads": 8,
        "model.tiny.kv_heads": 1,
        "model.tiny.vision_width": 64,
        "env.id": "GymCards-NumberLine-v0",
        "env.prompt": "full",
        "env.prompt_template": "{instruction} {actions}",
        "model.system_message": "be brief",
        "env.invalid_reward": -0.5,
        "env.max_steps": 9,
        "env.options": {"solvable_only": True},
        "env.num_envs": 32,
        "model.family": "smolvlm",
        "model.thinking": False,
        "model.max_pixels": 4096,
        "rollout.engine": "module:factory",
        "rollout.steps": 32,
        "train.algorithm": "module:Class",
        "train.algorithm_options": {"normalize_advantages": False},
        "train.batch_size": 64,
        "train.micro_batch_size": 16,
        "train.token_budget": 4096,
        "train.gradient_checkpointing": True,
        "train.kl_to": "old",
        "train.old_scores": "computed",
        "train.value_hidden_sizes": (64,),
        "deepspeed.ranks": 4,
        "deepspeed.launcher": "slurm",
        "deepspeed.rendezvous": "host:1",
        "deepspeed.zero_stage": 2,
        "warm_start.mixture": ({"id": "GymCards-NumberLine-v0"},),
        "benchmarks": {"profile": "full"},
        "extensions": "elsewhere",
    }
    if key in special:
        return special[key]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 0.5 or 0.5


def variants(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name in type(section).model_fields:
        value, key = getattr(section, name), prefix + name
        if isinstance(value, BaseModel):
            yield from ((k, {name: v}) for k, v in variants(value, key + "."))
        elif key not in {"deepspeed.nodes", "rollout.engine_options", "warm_start.lessons"}:  # which need others too
            yield key, {name: changed(value, key)}


@pytest.mark.parametrize(("key", "values"), list(variants(Config())), ids=lambda v: v if isinstance(v, str) else "")
def test_the_fingerprint_changes_with_whatever_decides_the_weights(key: str, values: dict[str, Any]) -> None:
    reference = Config()
    other = parse(values)
    assert other != reference
    free = (
        "evaluate.",
        "checkpoint.",
        "tracking.",
        "benchmarks",
        "env.step_deadline",
        "extensions",
        "deepspeed.",
        "env.num_workers",
        "rollout.double_buffering",
    )
    passes = ("train.micro_batch_size", "train.token_budget", "train.gradient_checkpointing")
    decides = not key.startswith(free + passes)
    assert (other.fingerprint() != reference.fingerprint()) == decides


def test_where_an_engine_lies_does_not_decide_the_weights() -> None:
    here, there = (parse({"rollout": {"engine": "vllm", "engine_options": {"python": p}}}) for p in ("a", "b"))
    assert here != there
    assert here.fingerprint() == there.fingerprint()


def test_what_the_options_of_an_engine_from_outside_change_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vldac.config.schema.check_engine_options", lambda *_: None)
    one, other = (parse({"rollout": {"engine": "mine:Engine", "engine_options": {"beam": n}}}) for n in (1, 2))
    assert one.fingerprint() != other.fingerprint()
    assert "engine_options" not in Config().deciding()["rollout"]


def test_the_fingerprint_changes_with_what_is_added_to_it_and_with_nothing_else() -> None:
    assert len(Config().fingerprint()) == 16
    assert Config().fingerprint() == parse({}).fingerprint()
    assert len({Config().fingerprint(), Config().fingerprint("a"), Config().fingerprint("b")}) == 3


def test_updates_cover_all_steps() -> None:
    assert parse({"train": {"total_steps": 10_240}}).updates == 40
    assert parse({"train": {"total_steps": 10_241}}).updates == 41
    assert parse({"train": {"total_steps": 1}}).updates == 1


def test_the_work_is_the_same_on_any_number_of_ranks() -> None:
    alone, spread = parse({"deepspeed": {"ranks": 1}}), parse({"deepspeed": {"ranks": 4}})
    assert (spread.updates, spread.steps_per_update) == (alone.updates, alone.steps_per_update)


@pytest.mark.parametrize(
    "overrides",
    [
        ["env.id=MiniWorld-Hallway-v0"],
        ["model.lora_rank=0", "train.learning_rate=1.0e-4", "train.final_learning_rate=3.0e-5"],
        ["deepspeed.ranks=1"],
        ["deepspeed.zero_stage=2"],
    ],
)
def test_the_edits_that_the_readme_advises_are_accepted(overrides: list[str]) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert all(part in readme for override in overrides for part in override.split("="))
    load(REPOSITORY / "params.yaml", overrides)
