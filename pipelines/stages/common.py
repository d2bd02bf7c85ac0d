"""What the stages share: their arguments, and how they run a command of the method."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipelines.core.errors import PipelineError
from pipelines.core.network import bypass_proxy
from vldac.utils.processes import GRACE, die_with_parent, tie_to_parent

#: Exit code of a command that a signal ended, as a shell reports it: 128 + the signal's number.
SIGNALLED = 128


def arguments(
    argv: Sequence[str] | None, description: str | None, params: Path = Path("config.yaml"), *, benchmark: bool = False
) -> argparse.Namespace:
    """Parses what every stage takes: `--params`, by default `params`, and `--root`; with `benchmark`, a name."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if benchmark:
        parser.add_argument("benchmark", help="such as balrog")
    parser.add_argument("--params", type=Path, default=params, help="default: %(default)s")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's directory; default: the current one")
    parsed = parser.parse_args(argv)
    parsed.root = parsed.root.resolve()
    bypass_proxy(os.environ)  # DVC may have been typed by a person
    if "DVC_STAGE" in os.environ:  # started by DVC, whose end must be this process's end
        die_with_parent()
    return parsed


def run_module(module: str, *options: str | Path, root: Path, env: Mapping[str, str]) -> None:
    """Runs `python -m module` to its end, with this process's output as its own.

    Args:
        module: to run.
        options: of its command line.
        root: the project, where it runs.
        env: its whole environment, such as `extensions.environment`.

    Raises:
        SystemExit: it failed and has said why, or a signal ended it, which is said here.
    """
    process = subprocess.Popen(
        tie_to_parent([sys.executable, "-m", module, *map(str, options)]), cwd=root, env=dict(env)
    )
    try:
        code = process.wait()
    except BaseException:
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE / 2)  # Ctrl-C reaches it as well
        process.kill()
        process.wait()
        raise
    if code < 0:
        name = signal.Signals(-code).name
        cause = " (out of memory?)" if -code == signal.SIGKILL else ""
        print(f"error: {module} was ended by {name}{cause}; the same command resumes there", file=sys.stderr)
        raise SystemExit(SIGNALLED - code)
    if code:
        raise SystemExit(code)


def require(path: Path) -> Path:
    """`path`, which a command should have written.

    Raises:
        PipelineError: it did not.
    """
    if not path.exists():
        raise PipelineError(f"{path} was not written although the command succeeded; please report this")
    return path
