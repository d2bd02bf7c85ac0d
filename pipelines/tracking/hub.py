"""A registered version in the layout of Hugging Face's hub: pushed to a folder or a repository, pulled back verified.

    README.md  the model card
    policy/    the trained weights
    base/      the base model, or what names it
    params.yaml
    version.json  name, number and lineage, with the hashes of policy/ and base/

Only weights as safetensors, texts and tables travel: nothing that loading could execute.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import PipelineError
from pipelines.core.project import content_hash, home
from pipelines.tracking import lineage
from pipelines.tracking.exports import CONTENT
from vldac.utils.files import write_json

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

#: What a target or source of the hub begins with; everything else is a folder.
SCHEME = "hf://"
_VERSION = "version.json"
#: Begin the tags that hold what people have said of a version.
_SAID = ("promotion.", "rollback.")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_SUFFIXES = (".safetensors", ".json", ".jinja", ".md", ".txt", ".yaml")
_PARTS = {"policy": CONTENT, "base": "base.sha256"}
#: Of the files of a folder or repository, those of a version; `*` stands for folders, too.
_PATTERNS = (*(f"{part}/*{suffix}" for part in _PARTS for suffix in _SUFFIXES), "params.yaml", "README.md", _VERSION)
_MOST_FILES, _LARGEST_TEXT = 1000, 64 * 2**20


def push(root: Path, version: ModelVersion, target: str, *, public: bool = False) -> str:
    """Writes a version to a folder, or uploads it to a repository of the hub, which is made where it is missing.

    Args:
        root: the project.
        version: of the registry.
        target: a folder that does not exist or is empty, or `hf://owner/name`.
        public: let everybody see a repository that is made.

    Returns:
        Where it is now.

    Raises:
        PipelineError: the version cannot be fetched, holds something else than `_SUFFIXES`, or the hub refuses.
    """
    if not target.startswith(SCHEME):
        folder = Path(target)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise PipelineError(f"{folder} exists already; name a folder that does not")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as aside:
            _write(root, version, whole := Path(aside) / "whole")
            whole.rename(folder)  # it appears whole or not at all
        return str(folder)
    home(root).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home(root), prefix="push.") as aside:
        repository, folder = _repository(target), Path(aside) / "model"
        _write(root, version, folder)
        return _on_hub(lambda: _upload(repository, folder, f"{version.name} version {version.version}", public=public))


def _write(root: Path, version: ModelVersion, folder: Path) -> None:
    lineage.fetch(root, version, folder)
    # What people have said of it, by name, stays here; the parameters are a file of their own.
    about = {key: value for key, value in version.tags.items() if key != "params" and not key.startswith(_SAID)}
    write_json(folder / _VERSION, {"name": version.name, "version": str(version.version), "tags": about})
    _require_harmless(folder, _files(folder))


def _upload(repository: str, folder: Path, message: str, *, public: bool) -> str:
    from huggingface_hub import HfApi  # noqa: PLC0415  # only where something is sent

    api = HfApi()
    url = api.create_repo(repository, private=not public, exist_ok=True)
    api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        commit_message=message,
        delete_patterns=["policy/*", "base/*"],  # what a version before had and this one has not
    )
    return str(url)


def pull(source: str, out: Path) -> dict[str, Any]:
    """Copies a version from a folder or downloads it from the hub, verified before any of it appears.

    Args:
        source: a folder that `push` wrote, or a clone or download of what it has uploaded; or `hf://owner/name`, which
            may end in `@revision`. Of other files than a version's, none is taken.
        out: must not exist.

    Returns:
        What version.json says.

    Raises:
        PipelineError: `out` exists, the hub refuses, or the files are not those that were registered.
    """
    if out.exists():
        raise PipelineError(f"{out} exists already; name a directory that does not")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as aside:
        whole = Path(aside) / "whole"
        if source.startswith(SCHEME):
            repository, _, revision = source.removeprefix(SCHEME).partition("@")
            _on_hub(lambda: _download(_repository(repository), revision or None, whole))
        else:
            folder = Path(source)
            if not (folder / _VERSION).is_file():
                raise PipelineError(f"{folder} holds no {_VERSION}; name a folder that vldac models push has written")
            _copy(folder, whole)
        about = _verified(whole, source)
        whole.rename(out)
    return about


def _copy(folder: Path, out: Path) -> None:
    """Copies the files of a version; what git or a download has left beside them stays where it is."""
    names = (path.relative_to(folder).as_posix() for path in _files(folder))
    wanted = [folder / name for name in names if any(fnmatchcase(name, pattern) for pattern in _PATTERNS)]
    _require_harmless(folder, wanted)
    for path in wanted:
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target, follow_symlinks=False)


def _download(repository: str, revision: str | None, folder: Path) -> None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  # only where something is fetched

    snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=list(_PATTERNS))
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes on the download
    _require_harmless(folder, _files(folder))


def _verified(folder: Path, source: str) -> dict[str, Any]:
    """What version.json says, once the files are those that it names."""
    about = _read(folder / _VERSION, source)
    for part, tag in _PARTS.items():
        if not (folder / part).is_dir():
            raise PipelineError(f"{source} holds no {part}; push its version again")
        if content_hash(folder / part) != about["tags"].get(tag):
            raise PipelineError(f"{source}: the files of {part} are not those that were registered; do not use them")
    if not (folder / "params.yaml").is_file():
        raise PipelineError(f"{source} holds no params.yaml; push its version again")
    return about


def _read(path: Path, source: str) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        well = isinstance(about["name"], str) and isinstance(about["version"], str)
        well &= all(isinstance(value, str) for value in about["tags"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        well = False
    if not well:
        raise PipelineError(f"{source}: {_VERSION} is missing or damaged; push its version again")
    return dict(about)


def _files(folder: Path) -> list[Path]:
    """All that lies in a folder, links to directories too."""
    return [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]


def _require_harmless(folder: Path, files: Sequence[Path]) -> None:
    """Refuses links, files of other kinds than `_SUFFIXES`, and more or larger ones than a version has."""
    for path in files:
        name = path.relative_to(folder)
        if path.is_symlink():
            raise PipelineError(
                f"{folder} holds {name}, a link; take a folder with the files themselves (hf download --local-dir does)"
            )
        if not path.is_file() or path.suffix not in _SUFFIXES:
            raise PipelineError(
                f"{folder} holds {name}, which is no file of a version; only {', '.join(_SUFFIXES)} are"
            )
        if path.suffix != ".safetensors" and path.stat().st_size > _LARGEST_TEXT:
            raise PipelineError(f"{folder} holds {name}, which is larger than any text of a version")
    if len(files) > _MOST_FILES:
        raise PipelineError(f"{folder} holds {len(files)} files, more than any version")


def _repository(target: str) -> str:
    name = target.removeprefix(SCHEME)
    if not _REPOSITORY.fullmatch(name):
        raise PipelineError(f"{SCHEME}{name} names no repository; write {SCHEME}owner/name")
    return name


def _on_hub(call: Callable[[], Any]) -> Any:
    """Turns what the hub refuses into one line."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return call()
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        line = next((text for text in map(str.strip, str(error).splitlines()) if text), type(error).__name__)
        raise PipelineError(
            f"the hub cannot be used: {line[:200]}; `hf auth login` signs in, or name a folder"
        ) from error
