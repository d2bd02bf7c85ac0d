"""`python -m benchmarks.report`."""

import sys

from benchmarks.report.command import main
from benchmarks.report.data import ReportError
from vldac.runtime import fail_readably

sys.exit(fail_readably(main, (ReportError,)))
