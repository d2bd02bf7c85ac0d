"""How every command ends: exit status 0, or one readable line and exit status 1."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable


class UserError(Exception):
    """A failure that a user can mend. Its message is what the user needs, `cause; cure`, one line for each cause."""


_CURES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EACCES: "make it accessible to this user and run the same command again",
    errno.EPERM: "make it accessible to this user and run the same command again",
    errno.EROFS: "run in a directory that can be written",
}


def explain(error: BaseException) -> str:
    """One line for an expected failure, ending in its cure where one is known."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        cure = _CURES.get(error.errno or 0)
        return f"{where}{error.strerror}" + (f"; {cure}" if cure else "")
    return " ".join(str(error).split()) or type(error).__name__


def expected(error: BaseException) -> bool:
    """Whether a failure is a user's to mend: a `UserError`, a simulator's, or one of files and connections."""
    # The simulators do not know this package. Where none of their modules is loaded, none of their errors was raised.
    simulators = sys.modules.get("envs.base")
    return isinstance(error, UserError | OSError) or (
        simulators is not None and isinstance(error, simulators.SimulatorError)
    )


def report_errors(main: Callable[[], int]) -> int:
    """Runs a command's main function; an expected failure becomes `error: cause; cure` on stderr and exit status 1.

    Anything else keeps its traceback: it is a defect.

    Args:
        main: returns the exit status.
    """
    try:
        return main()
    except KeyboardInterrupt:
        print("error: interrupted; the same command resumes where this one stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if not expected(error):
            raise
        lines = str(error).splitlines() if isinstance(error, UserError) else [explain(error)]
        for line in lines or [type(error).__name__]:
            print(f"error: {line}", file=sys.stderr)
        return 1
