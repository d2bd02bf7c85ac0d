"""Expected failures of the pipeline. How a command reports them is in `vldac.utils.errors`."""

from __future__ import annotations

from vldac.utils.errors import UserError, explain
from vldac.utils.errors import report_errors as run

__all__ = ["PipelineError", "explain", "run"]


class PipelineError(UserError):
    """An expected failure; its message is the one line a user needs: `<cause>; <cure>`."""
