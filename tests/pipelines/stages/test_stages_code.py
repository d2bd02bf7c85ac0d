"""An edit makes again exactly what imports the edited file, of the project or of `extensions`."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from pipelines.core.errors import PipelineError
from pipelines.stages import code, environment
from tests.pipelines.conftest import FAKES, REPOSITORY, dvc
from vldac.config import load, parse

OWN = """
from envs.gym_cards import NumberLine

PENALTY = -0.1


class Own(NumberLine):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + PENALTY, *rest
"""
VSI = "benchmarks.suites.vsi_bench.lessons:VSILessons"
REGISTERED = """import gymnasium
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv


class OwnLake(FrozenLakeEnv): ...


gymnasium.register("OwnLake-v0", "own_lake:OwnLake", max_episode_steps=5)
"""


@pytest.fixture
def real_imports(project: Path) -> Path:
    """The project, in which each fake imports what the module it stands for does, and so depends on it."""
    for target in FAKES.values():
        real = Path(target).with_name(f"real_{Path(target).name}")
        shutil.copy(REPOSITORY / target, project / real)
        with (project / target).open("a") as fake:
            fake.write(f"\n\ndef _real() -> None:\n    import {'.'.join(real.with_suffix('').parts)}\n")
    return project


def changed_stages() -> set[str]:
    """The stages of which `dvc status` says that a dependency has changed, once `code` has looked."""
    dvc("repro", "code")
    found: dict[str, object] = json.loads(dvc("status", "--json"))
    return set(found)


def edit(name: str) -> None:
    with Path(name).open("a") as file:
        file.write("# an edit\n")


@pytest.mark.slow
def test_an_edit_reruns_what_depends_on_it_and_nothing_else(
    real_imports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc("repro")
    assert dvc("status").strip() == "Data and pipelines are up to date."

    edit("vldac/value_head.py")
    assert changed_stages() == {"train"}
    printed = dvc("repro")
    assert "Running stage 'train'" in printed
    assert "Stage 'base' didn't change" in printed
    assert dvc("status").strip() == "Data and pipelines are up to date."

    edit("benchmarks/harness/video.py")
    assert changed_stages() == {"benchmark@vsi_bench"}
    edit("envs/pictures/scenes.py")
    assert changed_stages() == {"benchmark@vsi_bench", "benchmark@understanding", "base"}
    edit("vldac/plan.py")
    edit("pipelines/tracking/runs.py")
    edit("envs/webshop/env.py")
    assert changed_stages() == {"benchmark@vsi_bench", "benchmark@understanding", "base"}
    dvc("repro")
    assert dvc("status").strip() == "Data and pipelines are up to date."

    # Another version of a package, which DVC does not see and `make run` does.
    config, version = load("params.yaml"), metadata.version
    assert not code.has_changed(real_imports, config)
    monkeypatch.setattr(metadata, "version", lambda name: "0.0" if name == "deepspeed" else version(name))
    assert code.has_changed(real_imports, config)
    code.write(real_imports, config)
    assert set(json.loads(dvc("status", "--json"))) == {"code", "train"}  # the file of `code` is not what it made


def test_of_all_stages_only_training_depends_on_deepspeed() -> None:
    found = code.build_manifests(REPOSITORY, load(REPOSITORY / "params.yaml"))
    assert [name for name, manifest in found.items() if "deepspeed" in manifest["packages"]] == ["train"]


@pytest.mark.slow
def test_an_environment_of_the_users_own_is_found_by_every_stage_and_its_edit_reruns_training(project: Path) -> None:
    Path("extensions/own.py").write_text(OWN)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["env"]["id"] = "own:Own"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    for target in ("vldac/warm_start.py", "vldac/train.py", "vldac/evaluation/episodes.py", "benchmarks/__main__.py"):
        with Path(target).open("a") as fake:
            fake.write("__import__('own').Own\n")
    dvc("repro", "evaluate", "benchmark@understanding")
    manifest = json.loads(Path("data/environment/manifest.json").read_text())
    assert {"extensions/own.py", "envs/gym_cards/number_line.py"} <= manifest["files"].keys()
    assert "pillow" in manifest["packages"]
    assert dvc("status", "evaluate").strip() == "Data and pipelines are up to date."

    Path("extensions/own.py").write_text(OWN.replace("-0.1", "-0.2"))
    assert {"code", "environment"} <= set(json.loads(dvc("status", "--json")))
    assert "Running stage 'train'" in dvc("repro", "evaluate")

    # What is wrong with it is one line.
    Path("extensions/own.py").write_text("class Other: ...\n")
    printed = dvc("repro", "evaluate", code=255)
    assert "error: env.id own:Own: own:Own: the module own has no 'Own'; name one of its classes" in printed
    Path("extensions/own.py").write_text("class Own(:\n")
    printed = dvc("repro", "evaluate", code=255)
    assert f"error: {project / 'extensions/own.py'}:1: invalid syntax; correct it and run again" in printed
    assert "Traceback" not in printed
    Path("extensions/own.py").write_text(OWN)

    # Outside of `extensions` DVC would not see it.
    Path("extensions/own.py").rename("own.py")
    printed = dvc("repro", "evaluate", code=255)
    assert f"error: env.id own:Own: {project / 'own.py'} lies outside `extensions` (extensions), so DVC" in printed
    assert "Traceback" not in printed
    values["extensions"] = "own.py"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    dvc("repro", "environment")
    assert "own.py" in json.loads(Path("data/environment/manifest.json").read_text())["files"]


def test_an_environment_that_is_registered_with_gymnasium_is_followed_to_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions/own_lake.py").write_text(REGISTERED)
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = parse({"env": {"id": "gymnasium:own_lake:OwnLake-v0", "width": 32, "height": 32}})
    written = environment.manifest(tmp_path, config)
    assert {"extensions/own_lake.py", "envs/adapter/env.py"} <= written["files"].keys()
    assert {"gymnasium", "pillow"} <= written["packages"].keys()
    assert "extensions/own_lake.py" in code.build_manifests(tmp_path, config)["environment"]["files"]
    assert "extensions/own_lake.py" not in code.build_manifests(tmp_path, config)["train"]["files"]


def test_the_base_depends_on_the_lessons_that_it_is_taught_and_on_no_others() -> None:
    files = {
        with_lessons: code.build_manifests(REPOSITORY, load(REPOSITORY / "params.yaml", overrides))["base"]["files"]
        for with_lessons, overrides in (
            (False, []),
            (True, ["warm_start.mixture=[{id: GymCards-NumberLine-v0}]", f"warm_start.lessons=[{{id: '{VSI}'}}]"]),
        )
    }
    needed = {f"benchmarks/suites/vsi_bench/{name}.py" for name in ("lessons", "questions", "scene", "renderer")}
    assert needed <= files[True].keys()
    assert not [name for name in files[True] if name.startswith("benchmarks/suites/") and "/vsi_bench/" not in name]
    assert not [name for name in files[False] if name.startswith("benchmarks")]


def test_lessons_from_elsewhere_than_dvc_sees_are_refused(tmp_path: Path) -> None:
    (tmp_path / "extensions").mkdir()
    lessons = {"mixture": ({"id": "GymCards-NumberLine-v0"},), "lessons": ({"id": "my_lessons:Own"},)}
    with pytest.raises(
        PipelineError, match=r"warm_start\.lessons\.0\.id my_lessons:Own: there is no module my_lessons"
    ):
        code.build_manifests(tmp_path, parse({"warm_start": lessons}))
