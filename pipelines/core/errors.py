"""How every command of the package ends: exit code 0, or one readable line and exit code 1."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from vldac.config import ConfigError


class PipelineError(RuntimeError):
    """An expected failure; its message is the one line a user needs: `<cause>; <cure>`."""


_CURES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EACCES: "make it accessible to this user and run the same command again",
    errno.EPERM: "make it accessible to this user and run the same command again",
    errno.EROFS: "run in a directory that can be written",
}


def explain(error: Exception) -> str:
    """One line for an expected failure, ending in its cure where one is known."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        cure = _CURES.get(error.errno or 0)
        return f"{where}{error.strerror}" + (f"; {cure}" if cure else "")
    return " ".join(str(error).split()) or type(error).__name__


def run(main: Callable[[], int]) -> int:
    """Calls `main`; an expected failure becomes `error: ...` on stderr and exit code 1, a bug keeps its traceback."""
    try:
        return main()
    except ConfigError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 1
    except (PipelineError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; the same command resumes where this one stopped", file=sys.stderr)
        return 130
