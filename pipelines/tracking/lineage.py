"""A registered version: named, fetched with its hashes verified, and traced back to what made it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.core.errors import PipelineError
from pipelines.core.project import cache_directory, content_hash
from pipelines.tracking import model_card, runs
from pipelines.tracking.exports import CONTENT
from vldac.utils.files import model_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_URI = re.compile(r"(?:models:/)?(?P<name>[^@/]+)(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))?")


@dataclass(frozen=True)
class Selector:
    """A version as a person writes it: `models:/NAME@champion`, `NAME/3`, or `NAME` for its candidate."""

    name: str
    alias: str | None
    version: str | None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Reads the text.

        Raises:
            PipelineError: it is none of the three forms.
        """
        match = _URI.fullmatch(text)
        if match is None:
            raise PipelineError(f"{text!r} names no version; write NAME@champion or NAME/3")
        return cls(match["name"], match["alias"], match["version"])


def find(client: MlflowClient, text: str, default: str = "candidate") -> ModelVersion:
    """The version that a text names.

    Args:
        client: of a server within reach.
        text: see `Selector`.
        default: alias of a bare name.

    Raises:
        PipelineError: there is none.
    """
    wanted = Selector.parse(text)
    models = client.search_registered_models(f"name='{_quoted(wanted.name)}'")
    if not models:
        known = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none yet"
        raise PipelineError(f"there is no registered model {wanted.name!r}; registered are: {known}")
    aliases = {alias: str(number) for alias, number in models[0].aliases.items()}
    number = wanted.version or aliases.get(wanted.alias or default)
    versions = {str(v.version): v for v in client.search_model_versions(f"name='{_quoted(wanted.name)}'")}
    if number not in versions:
        choices = ", ".join([*sorted(versions, key=int), *(f"@{alias}" for alias in sorted(aliases))])
        raise PipelineError(f"{wanted.name} has no version {wanted.version or '@' + (wanted.alias or default)}; "
                            f"choose from {choices}")  # fmt: skip
    return client.get_model_version(wanted.name, number)


def _quoted(name: str) -> str:
    if "'" in name:
        raise PipelineError(f"{name!r} names no model: a name has no quotes")
    return name


def fetch(root: Path, version: ModelVersion, out: Path) -> None:
    """Downloads a version into `out`: policy/, base/, params.yaml and README.md, verified before any of it appears.

    Raises:
        PipelineError: `out` holds something already, or what came is not what was registered.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PipelineError(f"{out} exists already; name a directory that does not")
    out.parent.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{version.name}/{version.version}"
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as aside,
        runs.transferring(f"fetching {version.name}/{version.version}"),
    ):
        with runs.reachable(root):
            runs.client(root)
            from mlflow.artifacts import download_artifacts  # noqa: PLC0415  # seconds to import

            model = Path(download_artifacts(artifact_uri=uri, dst_path=aside)).resolve()
        for name, tag in (("policy", CONTENT), ("base", "base.sha256")):
            wanted, directory = version.tags.get(tag), model / "artifacts" / name
            if not directory.is_dir():
                raise PipelineError(f"{uri} holds no {name}; register its weights again")
            if wanted is not None and content_hash(directory) != wanted:
                raise PipelineError(f"{uri}: the files of {name} are not those that were registered; do not use them")
        whole = Path(aside) / "whole"
        whole.mkdir()
        for name in ("policy", "base"):
            shutil.move(model / "artifacts" / name, whole / name)
        params = yaml.safe_dump(json.loads(version.tags["params"]), sort_keys=False)
        (whole / "params.yaml").write_text(params, encoding="utf-8")
        (whole / "README.md").write_text(model_card.card(version), encoding="utf-8")
        if out.exists():
            out.rmdir()
        whole.rename(out)


def cached_hash(cache: Path, md5: str, name: str) -> str | None:
    """`content_hash` of a directory as it lies in DVC's cache, None where the cache does not hold all of it.

    Args:
        cache: `files/md5` of the cache.
        md5: of the directory, `<32 hex digits>.dir`.
        name: what the directory is called in the project.
    """
    if not re.fullmatch(r"[0-9a-f]{32}\.dir", md5):
        return None
    listing = _object(cache, md5)
    if not listing.exists():
        return None
    entries = json.loads(listing.read_text(encoding="utf-8"))
    digest = hashlib.sha256()
    # The order of `content_hash`, which sorts paths part by part.
    for entry in sorted(entries, key=lambda entry: Path(entry["relpath"])):
        path = _object(cache, entry["md5"])
        if not path.exists():
            return None
        with path.open("rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{name}/{entry['relpath']}\0{inner}\n".encode())
    return digest.hexdigest()


def _object(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def check_cache(root: Path, tags: Mapping[str, str]) -> str:
    """Whether the weights that a version names lie in this project's DVC cache, and are those that were registered."""
    md5 = tags.get("dvc.md5", "")
    found = cached_hash(cache_directory(root) / "files/md5", md5, Path(tags.get("dvc.path", "policy")).name)
    if found is None:
        return "not in this project's DVC cache (dvc pull may bring them)"
    if found != tags.get(CONTENT):
        return f"DAMAGED: the DVC cache holds other weights under {md5}"
    return "in the DVC cache, with the same hash"


def base_of(tags: Mapping[str, str]) -> str:
    """The base that a version names; of a directory also that the registry does not hold it, and what is there now."""
    name = tags.get("model.base", "unknown")
    if name == "tiny" or not (recorded := tags.get("base.digest")):
        return f"{name} {tags.get('model.revision', '')}".strip()
    here = Path(name)
    if not here.is_dir():
        state = "it is not on this machine"
    elif model_digest(here) == recorded:
        state = "its files here are the same"
    else:
        state = "its files here are OTHERS"
    return f"{name} (digest {recorded}), a directory that the registry does not hold; {state}"


def trace(root: Path, version: ModelVersion) -> list[tuple[str, str]]:
    """From a version back to what made it, as names and values."""
    tags = version.tags
    dirty = ", with changes that were not committed" if tags.get("git.dirty") == "true" else ""
    rows = [
        ("version", f"models:/{version.name}/{version.version}"),
        ("git revision", tags.get("git.revision", "unknown") + dirty),
        ("DVC experiment", tags.get("dvc.exp.name", "")),
        ("DVC hash", tags.get("dvc.md5", "unknown")),
        ("content", f"sha256 {tags.get(CONTENT, 'unknown')}"),
        ("weights", check_cache(root, tags)),
        ("base", base_of(tags)),
        ("environment", tags.get("env", "unknown")),
        ("seed", tags.get("seed", "unknown")),
        ("MLflow run", version.run_id or "unknown"),
        *((f"{name} policy", _format_score(tags[f"evaluate.{name}"])) for name in ("random", "base", "trained")
          if f"evaluate.{name}" in tags),
        ("promotion", tags.get("promotion.reason", "")),
        ("rolled back", tags.get("rollback.reason", "")),
        ("parameters", tags.get("params", "unknown")),
    ]  # fmt: skip
    return [(name, value) for name, value in rows if value]


def _format_score(text: str) -> str:
    result: dict[str, Any] = json.loads(text)
    low, high = result["success_ci"]
    return f"success {result['success']:.3f} [{low:.3f}, {high:.3f}] over {result.get('episodes', '?')} episodes"
