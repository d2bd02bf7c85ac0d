"""Sections by name: what a preset's name stands for, what changes over it, and every preset of the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from envs.registry import registered
from vldac import algorithms
from vldac.config import Config, ConfigError, load, parse, presets
from vldac.config.presets import PresetError, resolve

REPOSITORY = Path(__file__).parents[2]
CONF = REPOSITORY / "conf"
#: What a preset is tried with, where by itself it does not fit the defaults.
COMPANIONS: dict[str, dict[str, Any]] = {
    "deepspeed/four-gpus-zero2": {"train": "paper", "rollout": "paper"},
    "deepspeed/eight-gpus-zero3": {"train": "paper", "rollout": "paper"},
    "train/paper": {"rollout": "paper"},
    "train/miniworld-oneroom": {"rollout": "miniworld-oneroom"},
    "rollout/numberline": {"train": "numberline"},
}
SECTIONS = frozenset({"env", "model", "train", "rollout", "deepspeed", "warm_start", "benchmarks"})
#: conf/study has profiles of `vldac study`, which its own tests read.
ALL = sorted(f"{path.parent.name}/{path.stem}" for path in CONF.glob("*/*.yaml") if path.parent.name != "study")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, values in {
        "small": {"id": "A", "frames": 1, "options": {"colour": "red", "depth": 3}},
        "large": {"id": "B", "frames": 4},
    }.items():
        (tmp_path / "env").mkdir(exist_ok=True)
        (tmp_path / "env" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def test_a_name_stands_for_the_preset_and_a_mapping_for_itself(folder: Path) -> None:
    values = {"seed": 1, "env": "large", "model": {"base": "tiny"}}
    resolved = resolve(values, SECTIONS, folder)
    assert resolved == {"seed": 1, "env": {"id": "B", "frames": 4}, "model": {"base": "tiny"}}
    assert values["env"] == "large"  # what was read is not changed


def test_changes_over_a_preset_win_key_by_key(folder: Path) -> None:
    changed = {"env": {"preset": "small", "frames": 2, "width": 64, "options": {"depth": 5}}}
    assert resolve(changed, SECTIONS, folder)["env"] == {
        "id": "A",
        "frames": 2,
        "width": 64,
        "options": {"colour": "red", "depth": 5},
    }


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ("larg", ["env: 'larg'", "did you mean 'large'?"]),
        ("qqqqqq", ["env: 'qqqqqq'", "choose from large, small"]),
        ("../env/large", ["unknown preset env"]),
        ("", ["unknown preset env"]),
        ({"preset": "larg", "frames": 2}, ["did you mean 'large'?"]),
        ({"preset": None}, ["env.preset must be the name of a preset"]),
        (
            {"preset": "large", "id": "C", "frames": 2, "width": 3},
            ["every value of the preset 'large'", "`env: large`"],
        ),
    ],
    ids=str,
)
def test_a_preset_that_cannot_be_used_is_one_line_with_the_cure(section: Any, parts: list[str], folder: Path) -> None:
    with pytest.raises(PresetError) as caught:
        resolve({"env": section}, SECTIONS, folder)
    (line,) = str(caught.value).splitlines()
    for part in parts:
        assert part in line


def test_a_section_without_presets_says_so(folder: Path) -> None:
    with pytest.raises(PresetError, match="rollout has no presets"):
        resolve({"rollout": "long"}, SECTIONS, folder)


@pytest.mark.parametrize(("text", "part"), [("a: [", "not valid YAML"), ("- 1", "must hold a mapping")])
def test_a_damaged_preset_is_named(text: str, part: str, folder: Path) -> None:
    (folder / "env/large.yaml").write_text(text)
    with pytest.raises(PresetError, match=part):
        resolve({"env": "large"}, SECTIONS, folder)


def test_a_params_file_and_overrides_may_name_presets(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("env: numberline\ntrain: {preset: numberline, gamma: 0.5}\n")
    config = load(params)
    assert (config.env.id, config.train.gamma, config.train.total_steps) == ("GymCards-NumberLine-v0", 0.5, 5888)
    # By override: a name replaces the section, and a value after it changes the preset.
    config = load(REPOSITORY / "params.yaml", ["env=numberline", "env.frames=2", "train.gamma=0.7"])
    assert (config.env.id, config.env.frames, config.env.height) == ("GymCards-NumberLine-v0", 2, 64)
    assert config.train.gamma == 0.7
    with pytest.raises(ConfigError, match=r"params\.yaml: unknown preset env: 'numberlin'; did you mean 'numberline'?"):
        load(params, ["env=numberlin"])
    with pytest.raises(ConfigError, match="every value of the preset 'numberline' is written over"):
        load(REPOSITORY / "params.yaml", ["env.preset=numberline"])


def test_a_wrong_key_over_a_preset_is_still_named(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("env: {preset: numberline, framse: 2}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'env\.framse'; did you mean 'env\.frames'"):
        load(params)


def assert_holds(values: dict[str, Any], written: dict[str, Any]) -> None:
    for key, value in written.items():
        if isinstance(value, dict):
            assert_holds(values[key], value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for entry, own in zip(values[key], value, strict=True):
                assert_holds(entry, own)
        else:
            assert values[key] == value


@pytest.mark.parametrize("name", ALL)
def test_every_preset_is_valid_by_itself(name: str) -> None:
    section, _, preset = name.partition("/")
    assert section in Config.model_fields, f"conf/{section} is of no section"
    values = {section: preset} | COMPANIONS.get(name, {})
    config = parse(resolve(values, SECTIONS))
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert_holds(config.model_dump(mode="json")[section], written)
    if section == "env":
        assert config.env.id in registered()


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_every_whole_run_is_a_valid_configuration(path: Path) -> None:
    assert load(path) != Config()


def test_the_presets_of_the_default_run_are_the_defaults() -> None:
    named = {
        "model": "tiny",
        "env": "miniworld-onerooms6fast",
        "train": "tiny",
        "rollout": "tiny",
        "deepspeed": "two-cpu-ranks",
    }
    assert parse(resolve(named, SECTIONS)) == Config()


@pytest.mark.parametrize("name", ["rl4vlm", "loop", "grpo", "ppo-token"])
@pytest.mark.parametrize(("env", "steps"), [("numberline", 20), ("miniworld-onerooms6fast", 50)])
def test_the_presets_of_algorithms_fit_both_small_environments(name: str, env: str, steps: int) -> None:
    config = parse(resolve({"env": env, "train": name, "rollout": {"steps": steps}}, SECTIONS))
    algorithm = algorithms.make(config.train)
    assert config.env.num_envs % algorithm.group_size == 0
    assert f"{steps} for" in (CONF / f"train/{name}.yaml").read_text() or not algorithm.whole_episodes


def test_presets_are_found_wherever_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "numberline" in presets.names("env")
