"""What lies outside the project and decides a benchmark: published data, the simulators of BALROG, the maps of Boxoban.

DVC sees none of it. The stage `benchmark-data` writes it down, a benchmark a file, and the stages `benchmark` depend on
that.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from benchmarks.harness import registry, section
from pipelines.core.errors import PipelineError
from pipelines.core.project import read_json, workspace
from pipelines.tracking.benchmark_scores import STAGES
from vldac.config import Config, ConfigError
from vldac.utils.files import write_json

DIRECTORY = "data/benchmarks"


def published(root: Path, config: Config, benchmark: str) -> Path | None:
    """The folder with the published data of a benchmark, None where the synthetic set is to be taken.

    Raises:
        PipelineError: `benchmarks.data` names a folder that holds no benchmark's data.
    """
    try:
        return section.parse(config.benchmarks).folder_of(benchmark, workspace(root))
    except ConfigError as error:
        raise PipelineError(str(error)) from None


def found(root: Path, config: Config, benchmark: str) -> dict[str, Any]:
    """What a benchmark finds on this machine.

    Raises:
        PipelineError: see `published`.
    """
    data = published(root, config, benchmark)
    listing: dict[str, Any] = {"data": None if data is None else _listing(data)}
    if surroundings := registry.get(benchmark).surroundings:
        found = registry.attribute(surroundings)()
        listing |= {name: _listing(value) if isinstance(value, Path) else value for name, value in found.items()}
    return listing


def write(root: Path, config: Config) -> None:
    """Writes down what each benchmark of the pipeline finds; see `found`."""
    for benchmark in STAGES:
        write_json(root / DIRECTORY / f"{benchmark}.json", found(root, config, benchmark))


def changed(root: Path, config: Config) -> bool:
    """Whether a benchmark finds other things than `write` has written down, or it has written nothing yet."""
    files = {benchmark: root / DIRECTORY / f"{benchmark}.json" for benchmark in STAGES}
    return any(
        not file.exists() or read_json(file) != found(root, config, benchmark) for benchmark, file in files.items()
    )


def _listing(folder: Path) -> dict[str, Any]:
    """Names and sizes of all files: published data may be hundreds of gigabytes, too much to read at every run."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    lines = [f"{path.relative_to(folder).as_posix()}\0{size}\n" for path, size in zip(files, sizes, strict=True)]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"files": len(files), "bytes": sum(sizes), "names_and_sizes_sha256": digest}
