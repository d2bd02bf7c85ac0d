"""YAML as a params file needs it: plain values, every key once, nothing that grows when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

#: Of one file, in bytes; params.yaml with all comments has 6,000.
MAX_BYTES = 2**20
#: Levels of mappings and lists in each other.
MAX_DEPTH = 32


class YAMLTextError(ValueError):
    """A text that is not taken; the message is one line, with the number of the line at fault where there is one."""


def read(path: Path) -> Any:
    """Reads a file.

    Raises:
        OSError: it cannot be read.
        YAMLTextError: see `parse`.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise YAMLTextError(f"it has more than {MAX_BYTES} bytes")
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise YAMLTextError(f"it is not valid YAML: {error}") from None


def parse(text: str) -> Any:
    """The value of a text.

    Raises:
        YAMLTextError: it is not valid YAML, names a key twice, has an alias (`*name`) or a tag (`!!int`), or is nested
            too deeply.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader, which makes plain values alone
    except _RefusedError as error:
        raise YAMLTextError(_line(error)) from None
    except yaml.MarkedYAMLError as error:
        raise YAMLTextError(f"it is not valid YAML: {_line(error)}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date in month 13, a number of 5,000 digits
        raise YAMLTextError(f"it is not valid YAML: {' '.join(str(error).split())}") from None


class _RefusedError(yaml.MarkedYAMLError):
    """Valid YAML that is not taken."""


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise _RefusedError(
                problem=f"the alias *{event.anchor} is not taken; write its value out", problem_mark=event.start_mark
            )
        if (tag := getattr(self.peek_event(), "tag", None)) is not None:
            # PyYAML's constructors fail with errors of any kind where a text is not what its tag says.
            raise _RefusedError(
                problem=f"the tag {tag!r} is not taken; write the value alone",
                problem_mark=self.peek_event().start_mark,
            )
        if self.depth == MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise _RefusedError(problem=f"more than {MAX_DEPTH} levels are in each other", problem_mark=mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in known:
                    raise _RefusedError(
                        problem=f"the key {key.value!r} is there twice; keep one", problem_mark=key.start_mark
                    )
                known.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _line(error: yaml.MarkedYAMLError) -> str:
    text = " ".join(part for part in (error.context, error.problem) if part)
    return f"line {error.problem_mark.line + 1}: {text}" if error.problem_mark else text
