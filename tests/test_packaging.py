"""The wheel: what is in it, and that it works without a checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.commands import new
from pipelines.core.errors import PipelineError
from pipelines.core.project import package_directory
from vldac.config import load, presets

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("vldac", "envs", "benchmarks", "pipelines")
#: A run of seconds.
TINY = (
    *("env=numberline", "env.num_envs=4", "env.num_workers=1", "env.width=32", "env.height=32"),
    *("model.tiny.hidden_size=64", "model.tiny.layers=1", "model.tiny.kv_heads=1", "model.tiny.intermediate_size=128"),
    *("model.tiny.vision_depth=1", "model.tiny.vision_width=32", "model.tiny.vocabulary=384", "warm_start.updates=2"),
    *("rollout.steps=4", "train.batch_size=8", "train.micro_batch_size=8", "train.total_steps=32"),
    *("train.value_warmup=1", "train.value_hidden_sizes=[16]"),
)


def tracked() -> list[str]:
    """Files of this checkout that a clone would have."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode().split("\0")
    return [name for name in names if name and (REPOSITORY / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a clean copy of this checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", *options], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_packages_and_what_a_project_starts_from(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(next(n for n in archive.namelist() if n.endswith("entry_points.txt"))).decode()
    packaged = {name for name in tracked() if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    template = {name for name in tracked() if name.startswith("conf/")}
    template |= {"params.yaml", "dvc.yaml", "prefect.yaml", ".gitignore", ".dvcignore"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    assert "vldac = pipelines.commands.cli:main" in entry_points
    assert inside == packaged | {f"vldac/project/{name}" for name in template}


def test_the_wheel_says_what_it_is_and_pins_no_path(wheel: Path) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(n for n in archive.namelist() if n.endswith("METADATA"))).decode()
    assert f"\nVersion: {project['version']}\n" in metadata
    assert "Requires-Dist: cyclopts" in metadata
    assert " @ file:" not in metadata


def test_the_changelog_and_the_citation_are_of_this_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert f"\n## [{version}]" in (REPOSITORY / "CHANGELOG.md").read_text()
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2508.04280"


def test_the_pinned_versions_fit_what_is_asked_for_and_name_no_index() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith(("#", " ")))
    assert pins["torch"] == "2.13.0"
    assert not [line for line in lines if re.search(r"https?:|file:|/opt/|\+cpu|--(extra-)?index", line)]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(need for name, extra in project["optional-dependencies"].items() if name != "openenv" for need in extra),
    ]
    for need in wanted:
        name = re.split(r"[<>=\[]", need)[0].lower().replace("_", "-")
        assert name in {pin.lower().replace("_", "-") for pin in pins} | {"vldac"}, need


def test_no_message_sends_people_to_an_index_that_has_no_such_project() -> None:
    for name in tracked():
        if name.endswith((".py", ".md")) and not name.startswith("tests/"):
            assert "install 'vldac" not in (REPOSITORY / name).read_text(), name


def test_a_new_project_has_stages_without_code_and_the_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "mine"
    said = "\n".join(new.create(root))
    assert "git init && dvc init" in said
    assert load(root / "params.yaml") == load(REPOSITORY / "params.yaml")
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert stages.keys() == yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"].keys()
    for name, stage in stages.items():
        assert new.REQUIREMENTS in stage["deps"], name
        assert not [path for path in stage["deps"] if path.split("/")[0] in PACKAGES], name
    flows = [one["entrypoint"] for one in yaml.safe_load((root / "prefect.yaml").read_text())["deployments"]]
    assert "pipelines.orchestration.flows.train_pipeline" in flows
    assert re.fullmatch(r"vldac==\S+\n", (root / "requirements.txt").read_text())
    for name in (".gitignore", ".dvcignore", "extensions/README.md"):
        assert (root / name).is_file()

    # Presets of the project are found before those of the code, wherever the user stands.
    (root / "conf/env/mine.yaml").write_text("id: GymCards-EZPoints-v0\n")
    (root / "whole.yaml").write_text("env: mine\n")
    assert load(root / "whole.yaml").env.id == "GymCards-EZPoints-v0"
    monkeypatch.chdir(root)
    assert load("conf/numberline.yaml").env.id == "GymCards-NumberLine-v0"

    with pytest.raises(PipelineError, match="exists and is not an empty directory"):
        new.create(root)


def test_params_that_are_not_there_are_the_defaults_only_where_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    assert load(None, ["env=numberline"]).env.id == "GymCards-NumberLine-v0"
    assert capsys.readouterr().err == "there is no params.yaml here; every value is its default, or as --set gives it\n"
    with pytest.raises(ValueError, match=r"params\.yaml: No such file"):
        load("params.yaml")
    (tmp_path / "params.yaml").write_text("seed: 5\n")
    assert load(None).seed == 5
    assert capsys.readouterr().err == ""


def test_the_template_is_the_checkout_where_there_is_one_and_the_installed_copy_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert presets.template() == REPOSITORY
    monkeypatch.setattr(presets, "_CHECKOUT", tmp_path)  # as site-packages
    assert presets.template() == REPOSITORY / "vldac/project"
    assert presets.folder_of(tmp_path / "params.yaml") == REPOSITORY / "vldac/project/conf"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that runs `vldac ...` of the installed wheel in a directory; the packages it needs are those here."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin/python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / version / "site-packages"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # not "installed already"
    done = subprocess.run([*install, str(wheel)], env=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # After this environment's own packages, and without the .pth files there: an editable installation is one of them.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def call(directory: Path, *words: str, code: int = 0) -> str:
        # Nor with the servers of another test's run, which that run leaves named in this process.
        other = ("PYTHONPATH", "VIRTUAL_ENV", "RANK", "MLFLOW_", "PREFECT_", "DVC_")
        env = {key: value for key, value in os.environ.items() if not key.startswith(other)}
        env |= {"PATH": f"{home / 'bin'}{os.pathsep}{env['PATH']}", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=directory, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    where = call(home, "python", "-c", "import vldac, pipelines; print(vldac.__file__, pipelines.__file__)")
    assert all(Path(path).is_relative_to(packages) for path in where.split()), where
    return call


@pytest.mark.slow
def test_a_policy_is_trained_where_there_is_no_checkout(installed: Any, tmp_path: Path) -> None:
    overrides = [f"--set={value}" for value in TINY]
    said = installed(tmp_path, "vldac", "warm-start", *overrides, "--out", "base")
    assert "there is no params.yaml here" in said
    said = installed(tmp_path, "vldac", "train", *overrides, "--base", "base", "--run-dir", "run", "--out", "policy")
    assert "update 2/2" in said
    assert (tmp_path / "policy/vldac.json").is_file()
    config = json.loads((tmp_path / "policy/vldac.json").read_text())["config"]
    assert config["env"]["id"] == "GymCards-NumberLine-v0"
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert installed(tmp_path, "vldac", "version") == f"vldac {version}\n"
    assert "numberline" in installed(tmp_path, "vldac", "envs", "list", "--presets").splitlines()
    assert "type this in a checkout" in installed(tmp_path, "vldac", "perf", "train", code=1)


@pytest.mark.slow
def test_the_pipeline_runs_in_a_new_project(installed: Any, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    installed(tmp_path, "vldac", "new", "mine")
    installed(root, "git", "init", "-q")
    installed(root, "python", "-m", "dvc", "init", "-q")
    installed(root, "git", "add", "-A")
    installed(root, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "start")
    params = load(root / "params.yaml", TINY).model_dump(mode="json")
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    said = installed(root, "vldac", "run", "--steps", "environment", "base", "train", "register")
    assert (root / "models/policy/vldac.json").is_file()
    assert re.search(r"vldac-gymcards-numberline-v0-qwen2_vl\s+version 1 @candidate", said)
    assert "'train'" not in installed(root, "python", "-m", "dvc", "status", "train")
    assert "vldac-gymcards-numberline-v0-qwen2_vl/1" in installed(root, "vldac", "models", "list")
    installed(root, "vldac", "models", "fetch", "vldac-gymcards-numberline-v0-qwen2_vl/1", "out")
    assert (root / "out/policy/vldac.json").is_file()


def test_the_code_of_a_package_is_the_projects_own_where_it_has_one(tmp_path: Path) -> None:
    assert package_directory(tmp_path, "vldac") == REPOSITORY / "vldac"
    (tmp_path / "vldac").mkdir()
    assert package_directory(tmp_path, "vldac") == tmp_path / "vldac"
    with pytest.raises(PipelineError, match="the package nowhere is not installed"):
        package_directory(tmp_path, "nowhere")
