"""Stage `base`: the model that training starts from, built and warm-started here unless params.yaml names another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.core import errors, extensions
from pipelines.stages import base_files
from pipelines.stages.common import arguments, require, run_module
from vldac.config import load


def main(argv: Sequence[str] | None = None) -> int:
    """Writes models/base and metrics/base.json."""
    options = arguments(argv, __doc__)
    root: Path = options.root
    out, metrics = root / "models/base", root / "metrics/base.json"
    for path in (out, metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
    config = load(root / options.params)
    base_files.link(root, config)  # whoever checked out another params.yaml has the links of the one before
    run_module(
        "vldac.warm_start",
        *("--params", options.params, "--out", out, "--metrics", metrics),
        root=root,
        env=extensions.environment(root, config),
    )
    require(out)
    require(metrics)
    return 0


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
