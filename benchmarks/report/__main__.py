"""`python -m benchmarks.report`."""

import sys

from benchmarks.report.command import main
from vldac.utils.errors import report_errors

sys.exit(report_errors(main))
