"""`vldac new`: a project of parameters, presets and stages, which runs with the installed package.

In a checkout, stages depend on the files of the code. A project has none of them; there, stages depend on
requirements.txt, which names the version that is installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import vldac
from pipelines.core.errors import PipelineError
from pipelines.stages import base_files
from vldac.config import Config, presets

#: What every stage depends on in the place of code.
REQUIREMENTS = "requirements.txt"
_PACKAGES = {"vldac", "envs", "benchmarks", "pipelines"}
_STAGES = "# What depends on what. `dvc repro` runs whatever is out of date; `vldac run` does the same with MLflow.\n"
_DEPLOYMENTS = "# What can be started from Prefect's pages; `vldac serve` creates it.\n"
_EXTENSIONS = """# Extensions

Code of your own: this folder is on the `sys.path` of every stage, and DVC runs again what depends on a file that has
changed. A class `Maze` in maze.py beside this file, derived from `envs.base.Env`, is

    env: {id: "maze:Maze"}

in params.yaml; `vldac envs check maze:Maze` tries it, and `vldac envs new NAME` writes one to start from.
"""


def create(directory: Path) -> list[str]:
    """Writes a project.

    Args:
        directory: of the project; it must not exist, or be empty.

    Returns:
        What to type next, a line each.

    Raises:
        PipelineError: the directory is in use, or the installation lacks the files.
    """
    template = presets.template()
    if not (template / "params.yaml").is_file():
        raise PipelineError(f"{template} lacks params.yaml; install the package again")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise PipelineError(f"{directory} exists and is not an empty directory; name another one")
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copytree(template / presets.CONF, directory / presets.CONF)
    for name in ("params.yaml", ".gitignore", ".dvcignore"):
        shutil.copyfile(template / name, directory / name)
    _write_yaml(directory / "dvc.yaml", _STAGES, stages(_read_yaml(template / "dvc.yaml")))
    _write_yaml(directory / "prefect.yaml", _DEPLOYMENTS, deployments(_read_yaml(template / "prefect.yaml")))
    (directory / REQUIREMENTS).write_text(f"vldac=={vldac.__version__}\n", encoding="utf-8")
    base_files.link(directory, Config())
    (directory / "extensions").mkdir()
    (directory / "extensions/README.md").write_text(_EXTENSIONS, encoding="utf-8")
    return [
        f"{directory} is a project of vldac {vldac.__version__}: params.yaml, conf/ and dvc.yaml are yours to change",
        f"cd {directory} && git init && dvc init && git add -A && git commit -m start",
        "vldac run        # train, evaluate and register; `vldac run --set env=numberline` for another environment",
    ]


def stages(definition: Mapping[str, Any]) -> dict[str, Any]:
    """dvc.yaml of a project: that of the checkout, its dependencies on code replaced by one on the version."""
    changed = {name: {**stage, "deps": _dependencies(stage.get("deps", []))} for name, stage in _stages(definition)}
    return {**definition, "stages": changed}


def _stages(definition: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(definition["stages"].items())


def _dependencies(paths: list[str]) -> list[str]:
    return [REQUIREMENTS, *(path for path in paths if Path(path).parts[0] not in _PACKAGES)]


def deployments(definition: Mapping[str, Any]) -> dict[str, Any]:
    """prefect.yaml of a project: that of the checkout, its flows named by module and not by file."""

    def by_module(entrypoint: str) -> str:
        file, _, flow = entrypoint.partition(":")
        return f"{file.removesuffix('.py').replace('/', '.')}.{flow}"

    changed = [{**one, "entrypoint": by_module(one["entrypoint"])} for one in definition["deployments"]]
    return {**definition, "deployments": changed}


def _read_yaml(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def _write_yaml(path: Path, comment: str, values: Mapping[str, Any]) -> None:
    path.write_text(comment + yaml.safe_dump(dict(values), sort_keys=False, width=100), encoding="utf-8")
