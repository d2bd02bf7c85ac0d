"""Which files a module's result depends on: itself and all it imports from the same source tree."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path


def closure(root: Path, modules: Iterable[str], without: Collection[str] = ()) -> set[Path]:
    """Files below `root` that importing `modules` can load, imports inside functions included.

    `without` names modules to leave out, together with what only they import.
    Modules that are not below `root` (the standard library, installed packages) are left out, and so are the
    `__init__.py` of packages, which hold nothing here but a docstring.
    """
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        path = _file(root, module) if module not in without else None
        if path is not None and path not in found:
            found.add(path)
            waiting.extend(_imports(path))
    return found


def _file(root: Path, module: str) -> Path | None:
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
