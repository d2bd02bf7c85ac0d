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

_DEVICE_CURE = (
    "take train.gradient_checkpointing: true, LoRA (model.lora_rank), a smaller model.max_pixels or "
    "rollout.max_new_tokens, fewer env.num_envs, or more ranks with a higher deepspeed.zero_stage, and run the same "
    "command again"
)


def explain(error: BaseException) -> str:
    """One line for an expected failure, ending in its cure where one is known."""
    if _device_memory(error):
        first = " ".join(str(error).split()).partition(". ")[0]
        return f"the memory of the device is full ({first}); {_DEVICE_CURE}"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        cure = _CURES.get(error.errno or 0)
        return f"{where}{error.strerror}" + (f"; {cure}" if cure else "")
    return " ".join(str(error).split()) or type(error).__name__


def expected(error: BaseException) -> bool:
    """Whether a failure is a user's to mend: a `UserError`, a simulator's, one of files, connections, memory."""
    # The simulators do not know this package. Where none of their modules is loaded, none of their errors was raised.
    simulators = sys.modules.get("envs.base")
    return (
        isinstance(error, UserError | OSError)
        or (simulators is not None and isinstance(error, simulators.SimulatorError))
        or _device_memory(error)
    )


def _device_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # likewise
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


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
