"""dvc.yaml against the code: every stage depends on what it imports, and on values that the configuration has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.harness import registry, section
from pipelines.core.sources import closure
from pipelines.tracking import benchmark_scores as pipeline_benchmarks
from vldac.config import Config

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
WORKER = "envs.vector.worker"  # started by its name, in processes of its own
MODULES = {
    "base": ("vldac.warm_start",),
    "train": ("vldac.train", WORKER),
    "evaluate": ("vldac.evaluation.episodes", WORKER),
}
BENCHMARKS = STAGES["benchmark"]["matrix"]["name"]
# config.py checks values that are tracked one by one; plan.py only prints; the manifest of the environments stage holds
# the hashes of the environment's own files, so that naming another environment in the registry changes nothing.
NEUTRAL = ("vldac.config", "vldac.plan", "envs.registry")
RESOLVED = "config.yaml"
#: `environments` turns params.yaml into config.yaml; the other stages depend on values of that.
READERS = {
    name: next(iter(stage["params"])) for name, stage in STAGES.items() if name != "environment" and "params" in stage
}
IN_MANIFEST = {"envs/base.py", "envs/wrappers.py"}
REINFORCEMENT = {"train", "learner", "rollout", "objectives", "advantages", "scoring"}


@pytest.mark.parametrize("stage", MODULES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage: str) -> None:
    imported = {path.relative_to(ROOT).as_posix() for path in closure(ROOT, MODULES[stage], NEUTRAL)}
    declared = {path for path in STAGES[stage]["deps"] if path.endswith(".py") and not path.startswith("pipelines/")}

    assert declared == imported - IN_MANIFEST


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_depends_on_the_code_that_it_imports(name: str) -> None:
    module = registry.get(name).module
    imported = {path.relative_to(ROOT).as_posix() for path in closure(ROOT, ["benchmarks.__main__", module], NEUTRAL)}
    declared = {path.replace("${item.name}", name) for path in STAGES["benchmark"]["deps"]}
    assert {path for path in imported if not path.startswith(f"benchmarks/suites/{name}/")} <= declared
    assert f"benchmarks/suites/{name}" in declared


def test_the_report_depends_on_exactly_the_code_that_it_imports() -> None:
    imported = {path.relative_to(ROOT).as_posix() for path in closure(ROOT, ["benchmarks.report"], NEUTRAL)}
    declared = {path for path in STAGES["report"]["deps"] if path.endswith(".py") and not path.startswith("pipelines/")}
    assert declared == imported


def test_every_benchmark_of_the_pipeline_can_be_asked_for_by_name() -> None:
    assert tuple(BENCHMARKS) == pipeline_benchmarks.STAGES == registry.names(default=True)
    assert registry.names() == pipeline_benchmarks.NAMES


def test_every_dependency_is_a_file_of_the_project_or_the_output_of_a_stage() -> None:
    outputs = {str(Path(str(out))) for stage in STAGES.values() for out in _outputs(stage)}
    outputs |= {str(Path(out).parent) for out in outputs if "${item.name}" in out}
    outputs |= {f"data/benchmarks/{name}.json" for name in BENCHMARKS}
    for name, stage in STAGES.items():
        paths = (*stage["deps"], *(file for entry in stage.get("params", ()) for file in entry))
        for path in (path.replace("${item.name}", BENCHMARKS[0]) for path in paths):
            assert path in outputs or (ROOT / path).exists(), f"{name} depends on {path}, which nothing makes"


def test_what_is_trained_does_not_depend_on_how_it_is_tracked() -> None:
    for name in ("base", "train"):
        assert not [path for path in STAGES[name]["deps"] if path.startswith("pipelines")]


def test_the_base_model_does_not_depend_on_reinforcement_learning() -> None:
    assert not {Path(path).stem for path in STAGES["base"]["deps"]} & REINFORCEMENT


def test_values_are_read_from_the_resolved_configuration_which_follows_params_and_presets() -> None:
    for name, entry in READERS.items():
        assert list(entry) == [RESOLVED], name
    assert RESOLVED in _outputs(STAGES["environment"])
    assert STAGES["environment"]["params"] == [{"params.yaml": None}]
    code = {path.relative_to(ROOT).as_posix() for path in closure(ROOT, ["vldac.config"])}
    assert code <= set(STAGES["environment"]["deps"])


def test_every_parameter_of_a_stage_is_a_key_of_the_configuration() -> None:
    values = _defaults()
    for name, entry in READERS.items():
        for key in entry[RESOLVED]:
            node = values
            for part in key.split("."):
                assert part in node, f"stage {name} names the parameter {key}, which no configuration has"
                node = node[part]


def test_no_parameter_that_decides_the_weights_is_missing_from_training() -> None:
    tracked = {key for stage in ("base", "train") for key in READERS[stage][RESOLVED]}
    free = {"evaluate", "benchmarks", "checkpoint", "env.step_deadline"}
    for key in _leaves(Config().model_dump()):
        prefixes = {key.rsplit(".", n)[0] for n in range(key.count(".") + 1)}
        assert prefixes & (tracked | free), f"{key} decides the weights, but no stage depends on it"


def test_params_yaml_names_every_value_so_that_no_default_decides() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert _leaves(values) == _leaves(_defaults())


def _defaults() -> dict[str, Any]:
    return Config().model_dump() | {"benchmarks": section.model()().model_dump()}


def _leaves(values: dict[str, object], prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for key, value in values.items():
        keys |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return keys


def _outputs(stage: dict[str, list[object]]) -> list[object]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
