"""`python -m benchmarks.lmms_eval`."""

import sys

from benchmarks.lmms_eval.command import main
from vldac.utils.errors import report_errors

sys.exit(report_errors(main))
