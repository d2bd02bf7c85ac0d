"""The project on disk: where things are, which revision it is at, and the hashes of what DVC made."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from pipelines.core.errors import PipelineError
from vldac.utils import files

#: What stages write, and the parameters, which every version records in full: no change of the code that made it.
RECORDED = (
    *("params.yaml", "config.yaml", "dvc.lock"),
    *("data", "evaluations", "scores", "metrics", "models", "plots", "results", "runs"),
)


def workspace(root: Path) -> Path:
    """The project itself, where `root` is a directory in which DVC runs a queued experiment and then deletes."""
    return Path(os.environ.get("DVC_ROOT") or root).resolve()


def home(root: Path) -> Path:
    """Where servers keep their state (`.local`), which all experiments share.

    Raises:
        PipelineError: its path has a "?", at which the addresses of databases end, so that they would lie elsewhere.
    """
    path = workspace(root) / ".local"
    if "?" in str(path):
        raise PipelineError(f'{path.parent} has a "?" in its path, at which the address of a database ends; rename it')
    return path


def package_directory(root: Path, name: str) -> Path:
    """Where the code of a package of ours is: in the project if that is a checkout, else where it is installed.

    Raises:
        PipelineError: it is in neither place.
    """
    if (root / name).is_dir():
        return root / name
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise PipelineError(f"the package {name} is not installed; install vldac again")
    return Path(spec.origin).parent


def params_file(root: Path, name: str) -> Path:
    """A params file of the project by its name there.

    Raises:
        PipelineError: it is outside the project.
    """
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise PipelineError(f"{name} is outside the project; name a params file such as conf/numberline.yaml")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object that an earlier stage wrote.

    Raises:
        PipelineError: the file is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; run `dvc repro` (or `dvc pull`) first") from None
    except ValueError as error:
        raise PipelineError(f"{path} is not valid JSON ({error}); delete it and run `dvc repro`") from None
    if not isinstance(value, dict):
        raise PipelineError(f"{path} must hold a JSON object; delete it and run `dvc repro`")
    return value


def content_hash(*paths: Path) -> str:
    """See `vldac.utils.files.content_hash`.

    Raises:
        PipelineError: a path is missing.
    """
    try:
        return files.content_hash(*paths)
    except FileNotFoundError as error:
        raise PipelineError(f"{error}; run `dvc repro` (or `dvc pull`) first") from None


def stage_inputs(root: Path, stage: str) -> list[Path]:
    """The files and directories that dvc.yaml names as dependencies of a stage."""
    definition = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    return [root / path for path in definition["stages"][stage]["deps"]]


@dataclass(frozen=True)
class Revision:
    """The commit that is checked out.

    Attributes:
        commit: 40 hex digits, or "none" outside git and before the first commit.
        dirty: whether anything but `RECORDED` differs from that commit, untracked files included.
    """

    commit: str
    dirty: bool


def revision(root: Path) -> Revision:
    """Asks git for the state of the working tree; never fails, since a lineage without git is still a run."""
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    status = _git(root, "status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in RECORDED))
    return Revision(commit=commit or "none", dirty=status != "")


def _git(root: Path, *arguments: str) -> str | None:
    # safe.directory: a container often runs as another user than the one who owns the checkout.
    command = ["git", "-c", f"safe.directory={root.resolve()}", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True)
class Lock:
    """dvc.lock: the hashes that tie every result to its inputs."""

    md5: str
    stages: dict[str, Any]

    def out(self, stage: str, path: str) -> str | None:
        """DVC's md5 of an output of a stage (`<hash>.dir` for a directory), or None where the lock has none."""
        return self._find(stage, "outs", path)

    def dep(self, stage: str, path: str) -> str | None:
        """DVC's md5 of a dependency as it was when the stage last ran."""
        return self._find(stage, "deps", path)

    def _find(self, stage: str, kind: str, path: str) -> str | None:
        entries = self.stages.get(stage, {}).get(kind, [])
        return next((entry.get("md5") for entry in entries if entry["path"] == path), None)


def read_lock(root: Path) -> Lock:
    """Reads dvc.lock.

    Raises:
        PipelineError: there is none yet.
    """
    try:
        data = (root / "dvc.lock").read_bytes()
    except FileNotFoundError:
        raise PipelineError(f"{root / 'dvc.lock'} is missing; run `dvc repro` first") from None
    return Lock(md5=_md5(data), stages=yaml.safe_load(data).get("stages", {}))


def md5_of(path: Path) -> str:
    """The md5 that DVC records of a file."""
    return _md5(path.read_bytes())


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def cache_directory(root: Path) -> Path:
    """DVC's cache of the project: `.dvc/cache`, or where DVC's configuration has it."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    asked = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return Path(asked.stdout.strip()) if asked.returncode == 0 and asked.stdout.strip() else root / ".dvc" / "cache"


def family(root: Path) -> str:
    """The model family of models/base: `qwen2_vl` of a model's directory, a short name of one that it points to."""
    base = root / "models" / "base"
    if (base / "base.json").exists():
        target = str(read_json(base / "base.json")["base"])
        if not (Path(target) / "config.json").exists():
            return target.rstrip("/").rpartition("/")[2].lower()
        base = Path(target)
    return str(read_json(base / "config.json")["model_type"])


def base_digest(root: Path) -> str | None:
    """The digest of the directory outside the project that models/base stands for; None where it stands for none."""
    pointer = root / "models/base/base.json"
    digest = read_json(pointer).get("digest") if pointer.exists() else None
    return None if digest is None else str(digest)
