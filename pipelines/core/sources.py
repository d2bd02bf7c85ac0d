"""Which files and which installed packages a result depends on: the import closure of the modules that make it."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

#: Imported packages that decide no result: progress bars, measurements, and readers of values that are tracked as such.
INDIFFERENT = frozenset({"psutil", "pydantic", "pyyaml", "tqdm"})
#: Distributions that decide a result together with an imported one, although no file here imports them.
COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "alfworld": ("fast-downward-textworld", "textworld"),
    "miniworld": ("pyglet",),
    "en-core-web-sm": ("spacy",),
    "transformers": ("tokenizers",),
}
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_NO_DATA = {".py", ".pyc", ".pyi"}

_PARSE_ATTEMPTS = 5


@dataclass(frozen=True)
class Closure:
    """What importing some modules can load.

    Attributes:
        files: modules below the roots, and the data files that lie in their packages.
        libraries: top-level names that are imported from elsewhere, the standard library left out.
    """

    files: frozenset[Path]
    libraries: frozenset[str]


class SourceTree:
    """The modules below some directories, read without being imported; each is looked for and read once.

    Four ways of reaching a module count: an `import` anywhere in a file (in a function too, but not under
    `if TYPE_CHECKING`); a text that is the dotted name of a module, as in `python -m envs.vector.worker`; a text that
    `names` maps to a module; and, in the packages of `whole`, lying beside a module that counts.

    Args:
        roots: directories that are on `sys.path`.
        names: module by the text that stands for it, such as the id of an environment.
        whole: packages whose modules find each other by name: if one of them counts, all do.
        places: directory by the name of each package that is followed although it lies in none of `roots`.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        names: Mapping[str, str] | None = None,
        whole: Collection[str] = (),
        places: Mapping[str, Path] | None = None,
    ) -> None:
        self._roots, self._names, self._whole, self._places = roots, names or {}, tuple(whole), places or {}
        self._found: dict[str, Path | None] = {}
        self._code: dict[Path, bool] = {}
        self._reached: dict[Path, list[str]] = {}
        self._digests: dict[Path, str] = {}
        self._owners: Mapping[str, Sequence[str]] | None = None

    def closure(self, modules: Iterable[str], without: Collection[str] = ()) -> Closure:
        """What importing `modules` can load.

        Args:
            modules: dotted names.
            without: modules and packages to leave out, together with what only they import.

        Raises:
            SyntaxError: a file is not Python.
        """
        files: set[Path] = set()
        libraries: set[str] = set()
        waiting, seen = list(modules), set[str]()
        while waiting:
            module = waiting.pop()
            if module in seen or any(module == name or module.startswith(f"{name}.") for name in without):
                continue
            seen.add(module)
            top = module.partition(".")[0]
            if not self._is_own(top):
                if top not in sys.stdlib_module_names:
                    libraries.add(top)
                continue
            for path, package in self._files(module):
                if path not in files:
                    files.add(path)
                    waiting += self._modules_reached_by(path, package)
            waiting += self._beside(module)
        return Closure(frozenset(files | {data for path in files for data in self._data(path)}), frozenset(libraries))

    def manifest(self, closure: Closure) -> dict[str, Any]:
        """A closure as it is written down: SHA-256 of each file by its name below its root, and versions.

        Files and installed packages are looked at once in the life of this object.
        """
        if self._owners is None:
            self._owners = metadata.packages_distributions()
        for path in closure.files - self._digests.keys():
            self._digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        files = {self._name(path): self._digests[path] for path in closure.files}
        return {"files": dict(sorted(files.items())), "packages": versions(closure.libraries, self._owners)}

    def find(self, module: str) -> Path | None:
        """The file of a module, None where no root has it."""
        if module not in self._found:
            places = self._paths(module)
            files = (file for path in places for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"))
            self._found[module] = next((file for file in files if file.is_file()), None)
        return self._found[module]

    def _is_own(self, top: str) -> bool:
        return any(path.is_dir() or path.with_name(f"{top}.py").is_file() for path in self._paths(top))

    def _paths(self, module: str) -> list[Path]:
        """Where a module may be, without the suffix of its file."""
        parts = module.split(".")
        roots = [self._places[parts[0]]] if parts[0] in self._places else self._roots
        return [root.joinpath(*parts) for root in roots]

    def _name(self, path: Path) -> str:
        root = next(root for root in (*self._roots, *self._places.values()) if path.is_relative_to(root))
        return path.relative_to(root).as_posix()

    def _files(self, module: str) -> Iterator[tuple[Path, list[str]]]:
        """The file of a module and of each package around it that holds code, each with its package's parts."""
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            path = self.find(".".join(parts[:length]))
            if path is not None and path.name != "__init__.py":
                yield path, parts[: length - 1]
            elif path is not None and self._has_code(path):
                yield path, parts[:length]

    def _has_code(self, path: Path) -> bool:
        """Whether a package's `__init__.py` holds more than a docstring."""
        if path not in self._code:
            body = _parse(path).body
            self._code[path] = any(
                not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body
            )
        return self._code[path]

    def _beside(self, module: str) -> list[str]:
        package = next((name for name in self._whole if module == name or module.startswith(f"{name}.")), None)
        if package is None:
            return []
        folders = self._paths(package)
        paths = (path.relative_to(folder).with_suffix("") for folder in folders for path in folder.rglob("*.py"))
        return [f"{package}.{'.'.join(path.parts)}" for path in paths if path.name != "__init__"]

    def _modules_reached_by(self, path: Path, package: Sequence[str]) -> list[str]:
        if path not in self._reached:
            tree = _parse(path)
            self._reached[path] = [name for node in _executed(tree) for name in self._of_node(node, package)]
        return self._reached[path]

    def _of_node(self, node: ast.AST, package: Sequence[str]) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            if self._is_own(base.partition(".")[0]):
                yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in self._names:
                yield self._names[node.value]
            elif _MODULE.fullmatch(node.value) and self.find(node.value) is not None:
                yield node.value

    def _data(self, path: Path) -> Iterator[Path]:
        """Files beside a module that are no modules, and those of folders there that hold none."""
        folder = path.parent
        if folder in self._roots and path.name != "__init__.py":
            return  # not a package: what lies there may belong to anything
        folders = [folder, *(sub for sub in folder.iterdir() if sub.is_dir() and not any(sub.rglob("*.py")))]
        for place in folders:
            for file in place.iterdir() if place == folder else place.rglob("*"):
                hidden = file.name.startswith(".") or "__pycache__" in file.parts
                if file.is_file() and file.suffix not in _NO_DATA and not hidden and file.name != "README.md":
                    yield file


def _executed(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node but those that only a type checker reads."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        typing_only = isinstance(node, ast.If) and (
            (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
            or (isinstance(node.test, ast.Attribute) and node.test.attr == "TYPE_CHECKING")
        )
        waiting += node.orelse if isinstance(node, ast.If) and typing_only else ast.iter_child_nodes(node)


def _parse(path: Path) -> ast.Module:
    """The syntax tree of a file.

    Raises:
        SyntaxError: the file is no Python.
    """
    text = path.read_text(encoding="utf-8")
    for _ in range(_PARSE_ATTEMPTS - 1):
        # In some releases of CPython all threads share one counter of the parser's depth (cpython issue 106905): a
        # tree that another thread builds at the same moment makes this one fail, and the next attempt succeeds.
        with suppress(SystemError):
            return ast.parse(text, str(path))
    return ast.parse(text, str(path))


def versions(libraries: Iterable[str], owners: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The installed versions of the distributions that decide a result, by name.

    Args:
        libraries: top-level names of imports; what is not installed is left out.
        owners: of `importlib.metadata.packages_distributions`.
    """
    names = {name.lower() for library in libraries for name in owners.get(library, ())} - INDIFFERENT
    names |= {companion for name in names for companion in COMPANIONS.get(name, ())}
    found = {name: _version(name) for name in sorted(names)}
    return {name: version for name, version in found.items() if version is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
