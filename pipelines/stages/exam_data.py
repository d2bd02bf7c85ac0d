"""Stage `exam-data`: which data and which simulators the exams find on this machine.

DVC runs it when `exams.data` changes; `make run` also when what is found there does (`exam_data.changed`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines import cli, exam_data
from pipelines.stages.common import arguments
from vldac.config import load


def main(argv: Sequence[str] | None = None) -> int:
    """Writes data/exams/, a file an exam."""
    options = arguments(argv, __doc__)
    exam_data.write(options.root, load(options.root / options.params))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
