"""Stage `base`: the model that training starts from, built and warm-started here unless params.yaml names another.

A base of a mixture of environments takes most of an hour and is the same whatever the run learns in. It is kept in
.local/bases, under the name of all that decides it, and built once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.core import errors, extensions
from pipelines.core.project import home
from pipelines.stages import base_files
from pipelines.stages.code import DIRECTORY as CODE
from pipelines.stages.common import arguments, require, run_module
from vldac.config import Config, load
from vldac.evaluation.study.fingerprints import base_fingerprint

_MODEL, _METRICS = "base", "base.json"
#: Suffix of the lock of a kept base, beside it.
LOCK = ".lock"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes models/base and metrics/base.json."""
    options = arguments(argv, __doc__)
    root: Path = options.root
    out, metrics = root / "models/base", root / "metrics/base.json"
    for path in (out, metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
    config = load(root / options.params)
    base_files.link(root, config)  # whoever checked out another params.yaml has the links of the one before

    def build() -> None:
        run_module(
            "vldac.warm_start",
            *("--params", options.params, "--out", out, "--metrics", metrics),
            root=root,
            env=extensions.environment(root, config),
        )
        require(out)
        require(metrics)

    if config.model.base == "tiny" and config.warm_start.mixture:
        _built_once(kept_in(root, config), out, metrics, build)
    else:
        build()
    return 0


def kept_in(root: Path, config: Config) -> Path:
    """Where a base model is kept: named after its parameters, its code and its threads, which all decide its bits."""
    parts = [base_fingerprint(config), (root / CODE / "base.json").read_text(encoding="utf-8")]
    name = hashlib.sha256("\0".join([*parts, str(config.deepspeed.threads)]).encode()).hexdigest()[:16]
    return directory(root) / name


def directory(root: Path) -> Path:
    """Where the base models of a project are kept."""
    return home(root) / "bases"


def _built_once(kept: Path, out: Path, metrics: Path, build: Callable[[], None]) -> None:
    """Takes a base model that is kept, or builds and keeps it; whoever wants the same one meanwhile waits for it."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.is_dir():
            shutil.copytree(kept / _MODEL, out, dirs_exist_ok=True)
            shutil.copyfile(kept / _METRICS, metrics)
            os.utime(kept)  # of use today: see `pipelines.stages.garbage`
            print(f"base model built before, taken from {kept}")
            return
        build()
        aside = kept.with_name(f".{kept.name}")
        shutil.rmtree(aside, ignore_errors=True)  # what a kill has left
        shutil.copytree(out, aside / _MODEL)
        shutil.copyfile(metrics, aside / _METRICS)
        aside.rename(kept)


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
