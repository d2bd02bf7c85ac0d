"""Stage `base`: the model that training starts from, built and warm-started here unless params.yaml names another."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core import errors
from pipelines.stages.common import arguments, require, run_module


def main(argv: Sequence[str] | None = None) -> int:
    """Writes models/base and metrics/base.json."""
    options = arguments(argv, __doc__)
    out, metrics = options.root / "models/base", options.root / "metrics/base.json"
    for path in (out, metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
    run_module("vldac.warm_start", "--params", options.params, "--out", out, "--metrics", metrics, root=options.root)
    require(out)
    require(metrics)
    return 0


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
