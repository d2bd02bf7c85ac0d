"""Stage `benchmark-data`: which data and which simulators the benchmarks find on this machine.

DVC runs it when `benchmarks.data` changes; `make run` also when what is found there does (`data_listing.changed`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core import errors
from pipelines.stages import data_listing
from pipelines.stages.common import arguments
from vldac.config import load


def main(argv: Sequence[str] | None = None) -> int:
    """Writes data/benchmarks/, a file a benchmark."""
    options = arguments(argv, __doc__)
    data_listing.write(options.root, load(options.root / options.params))
    return 0


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
