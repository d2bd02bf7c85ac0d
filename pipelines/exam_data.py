"""What lies outside the project and decides an exam: published data, the simulators of BALROG, the maps of Boxoban.

DVC sees none of it. The stage `exam-data` writes it down, an exam a file, and the stages `exam` depend on that.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from pipelines.cli import PipelineError
from pipelines.exams import NAMES, STAGES
from pipelines.project import read_json, workspace, write_json
from vldac.config import Config

DIRECTORY = "data/exams"


def published(root: Path, config: Config, exam: str) -> Path | None:
    """The folder with the published data of an exam, None where the synthetic set is to be taken.

    Raises:
        PipelineError: `exams.data` names a folder that holds no exam's data, as a wrong name or another machine does.
    """
    if config.exams.data is None:
        return None
    folder = workspace(root) / config.exams.data
    if not any((folder / name).is_dir() for name in NAMES):
        raise PipelineError(
            f"exams.data: {folder} holds no data of an exam, such as {folder / 'vsi_bench'}; "
            "put it there, or name another folder (null takes the synthetic sets)"
        )
    return folder / exam if (folder / exam).is_dir() else None


def found(root: Path, config: Config, exam: str) -> dict[str, Any]:
    """What an exam finds on this machine.

    Raises:
        PipelineError: see `published`.
    """
    data = published(root, config, exam)
    listing: dict[str, Any] = {"data": None if data is None else _listing(data)}
    if exam == "balrog":
        from benchmarks.balrog import nethack, tasks  # noqa: PLC0415  # takes seconds

        maps = os.environ.get(nethack.MAPS_VARIABLE)
        installed = [name for name in tasks.ENVIRONMENTS if not tasks.missing_packages(name)]
        listing |= {"maps": _listing(Path(maps)) if maps else None, "packages": tasks.versions(installed)}
    return listing


def write(root: Path, config: Config) -> None:
    """Writes down what each exam of the pipeline finds; see `found`."""
    for exam in STAGES:
        write_json(root / DIRECTORY / f"{exam}.json", found(root, config, exam))


def changed(root: Path, config: Config) -> bool:
    """Whether an exam finds other things than `write` has written down; False where it has not yet."""
    files = {exam: root / DIRECTORY / f"{exam}.json" for exam in STAGES}
    return any(file.exists() and read_json(file) != found(root, config, exam) for exam, file in files.items())


def _listing(folder: Path) -> dict[str, Any]:
    """Names and sizes of all files: published data may be hundreds of gigabytes, too much to read at every run."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    lines = [f"{path.relative_to(folder).as_posix()}\0{size}\n" for path, size in zip(files, sizes, strict=True)]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"files": len(files), "bytes": sum(sizes), "names_and_sizes_sha256": digest}
