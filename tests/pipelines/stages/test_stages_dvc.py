"""dvc.yaml against the code: each stage depends on its manifest, and on values that the configuration has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.harness import registry, section
from pipelines.core.extensions import PACKAGES
from pipelines.stages import code
from pipelines.tracking import benchmark_scores
from tests.pipelines.conftest import REPOSITORY
from vldac.config import Config, load

STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
BENCHMARKS = STAGES["benchmark"]["matrix"]["name"]
RESOLVED = "config.yaml"
#: `code` and `environment` read params.yaml; the other stages depend on values of config.yaml.
FIRST = ("code", "environment")
READERS = {
    name: next(iter(stage["params"])) for name, stage in STAGES.items() if name not in FIRST and "params" in stage
}
REINFORCEMENT = {"train", "learner", "rollout", "objectives", "advantages", "scoring", "value_head"}


@pytest.fixture(scope="module")
def manifests() -> dict[str, set[str]]:
    """The files of each stage's manifest, by the stage's name."""
    found = code.build_manifests(REPOSITORY, load(REPOSITORY / "params.yaml"))
    return {name: set(manifest["files"]) for name, manifest in found.items()}


def test_every_stage_depends_on_its_own_manifest_and_on_no_file_of_code(manifests: dict[str, set[str]]) -> None:
    for name, stage in STAGES.items():
        if name == "code":
            continue
        own = "benchmark-${item.name}" if name == "benchmark" else name
        assert [path for path in stage["deps"] if path.startswith("data/code")] == [f"data/code/{own}.json"]
        assert not [path for path in stage["deps"] if path.partition("/")[0] in {*PACKAGES, "tests"}]
    of_benchmarks = {f"benchmark-{name}" for name in BENCHMARKS}
    assert set(manifests) == STAGES.keys() - {"code", "benchmark"} | of_benchmarks
    assert STAGES["code"]["outs"] == [code.DIRECTORY]
    assert {*PACKAGES, "conf", "${extensions}"} == set(STAGES["code"]["deps"])
    assert "${extensions}" in STAGES["environment"]["deps"]


def test_a_manifest_holds_what_a_stage_starts_by_name_and_the_data_beside_its_code(
    manifests: dict[str, set[str]],
) -> None:
    assert {"vldac/train.py", "envs/vector/worker.py", "vldac/value_head.py"} <= manifests["train"]
    assert {"vldac/evaluation/episodes.py", "envs/vector/worker.py"} <= manifests["evaluate"]
    assert "envs/pictures/scenes.py" in manifests["base"]  # made by its id, for the questions of the warm start
    assert "benchmarks/report/templates/report.html" in manifests["report"]
    balrog = {"benchmarks/suites/balrog/nethack/__init__.py", "benchmarks/suites/balrog/textworld_make.py"}
    assert balrog <= manifests["benchmark-balrog"]
    assert "envs/miniworld/env.py" in manifests["environment"]
    for name in BENCHMARKS:
        module = registry.get(name).module
        assert f"{module.replace('.', '/')}.py" in manifests[f"benchmark-{name}"]


def test_a_manifest_holds_nothing_that_its_result_does_not_depend_on(manifests: dict[str, set[str]]) -> None:
    for name, files in manifests.items():
        assert not [path for path in files if path.startswith(("pipelines/tracking", "pipelines/core"))]
        assert name == "environment" or not [path for path in files if path.startswith("vldac/config")]
    for name in ("base", "train"):  # what is trained does not depend on how it is tracked
        assert not [path for path in manifests[name] if path.startswith("pipelines")]
    assert not {Path(path).stem for path in manifests["base"]} & REINFORCEMENT
    assert not [path for path in manifests["base"] if path.startswith("envs/gym_cards")]
    assert not [path for path in manifests["train"] if path.startswith("envs/miniworld")]  # in the environment's
    for name in BENCHMARKS:
        files, own = manifests[f"benchmark-{name}"], registry.get(name).module.split(".")[2]
        assert {path.split("/")[2] for path in files if path.startswith("benchmarks/suites/")} == {own}
        assert "vldac/value_head.py" not in files
    assert "benchmarks/harness/video.py" in manifests["benchmark-vsi_bench"]
    assert "benchmarks/harness/video.py" not in manifests["benchmark-balrog"]


def test_a_project_without_code_depends_on_that_which_is_installed(
    tmp_path: Path, manifests: dict[str, set[str]]
) -> None:
    (tmp_path / "extensions").mkdir()
    found = code.build_manifests(tmp_path, load(REPOSITORY / "params.yaml"))
    assert {name: set(manifest["files"]) for name, manifest in found.items()} == manifests


def test_every_benchmark_of_the_pipeline_can_be_asked_for_by_name() -> None:
    assert tuple(BENCHMARKS) == benchmark_scores.STAGES == registry.names(default=True)
    assert registry.names() == benchmark_scores.NAMES


def test_every_dependency_is_a_file_of_the_project_or_the_output_of_a_stage() -> None:
    outputs = {str(Path(str(out))) for stage in STAGES.values() for out in _outputs(stage)}
    outputs |= {str(Path(out).parent) for out in outputs if "${item.name}" in out}
    outputs |= {f"data/benchmarks/{name}.json" for name in BENCHMARKS}
    outputs |= {f"data/code/{name}.json" for name in (*STAGES, *(f"benchmark-{name}" for name in BENCHMARKS))}
    for name, stage in STAGES.items():
        paths = (*stage["deps"], *(file for entry in stage.get("params", ()) for file in entry))
        for path in paths:
            filled = path.replace("${item.name}", BENCHMARKS[0]).replace("${extensions}", Config().extensions)
            assert filled in outputs or (REPOSITORY / filled).exists(), f"{name} depends on {path}, which nothing makes"


def test_values_are_read_from_the_resolved_configuration_which_follows_params_and_presets(
    manifests: dict[str, set[str]],
) -> None:
    for name, entry in READERS.items():
        assert list(entry) == [RESOLVED], name
    assert RESOLVED in _outputs(STAGES["environment"])
    for name in FIRST:
        assert STAGES[name]["params"] == [{"params.yaml": None}]
        assert "conf" in STAGES[name]["deps"]
    config = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "vldac/config").glob("*.py")}
    assert config <= manifests["environment"]


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
    free = {"evaluate", "benchmarks", "checkpoint", "env.step_deadline", "extensions", "tracking"}
    for key in _leaves(Config().model_dump()):
        prefixes = {key.rsplit(".", n)[0] for n in range(key.count(".") + 1)}
        assert prefixes & (tracked | free), f"{key} decides the weights, but no stage depends on it"


def test_params_yaml_names_every_value_so_that_no_default_decides() -> None:
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
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
