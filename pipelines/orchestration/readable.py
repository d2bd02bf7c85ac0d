"""Keeps the tracebacks of expected failures out of the logs of flow runs: what a person needs is the one line."""

from __future__ import annotations

import logging

from pipelines.core.errors import PipelineError, explain
from vldac.config import ConfigError

#: Where Prefect logs the exceptions of flow runs, of task runs, and of the process that holds them.
LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class OneLine(logging.Filter):
    """Puts the message of an expected failure in the place of its traceback; a bug keeps its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record; keeps every one."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, PipelineError | ConfigError):
            record.msg, record.args, record.exc_info, record.exc_text = "%s", (explain(error),), None, None
        return True


def install() -> None:
    """Sets the filter on `LOGGERS`; a second time changes nothing."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, OneLine) for known in logger.filters):
            logger.addFilter(OneLine())
