"""What the declarations of commands share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from cyclopts import Group, Parameter

#: An option without a value, which has no `--no-` form.
Flag = Annotated[bool, Parameter(negative=())]
#: The group of commands that need no pipeline, in a list of commands.
METHOD = Group("By themselves, without the pipeline", sort_key=2)
#: The group of commands within another command.
WITHIN = Group("Commands")


def print_lines(lines: Iterable[str]) -> int:
    """Prints what a command found, a line each; the exit status of success."""
    for line in lines:
        print(line, flush=True)
    return 0
