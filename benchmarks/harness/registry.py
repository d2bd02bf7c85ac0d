"""The benchmarks by name. Listing them imports no model library and no simulator.

A benchmark registers itself where `entries` looks: a module `benchmarks/suites/NAME.py`, or `suite.py` of a package
`benchmarks/suites/NAME/`, or the module that an installed package names under the entry point group `GROUP`. A module
that is in none of these places is named on the command line, `--benchmark my_module:MyBenchmark`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from benchmarks.harness.options import Options
from vldac.utils.errors import UserError

if TYPE_CHECKING:
    from benchmarks.harness.task import Benchmark

#: The package of the suites, imported by name: the harness depends on none of them.
SUITES = "benchmarks.suites"
#: Of installed packages; an entry point names a module that calls `register` when it is imported.
GROUP = "vldac.benchmarks"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_ENTRIES: dict[str, Entry] = {}


class UnknownBenchmarkError(UserError, ValueError):
    """No benchmark has this name; the message names the nearest ones."""


@dataclass(frozen=True)
class Entry:
    """One registered benchmark.

    Attributes:
        name: as commands and files write it, such as `vsi_bench`.
        title: as people write it, such as `VSI-Bench`.
        target: `module:Class` of the benchmark; importing it may need the benchmark's own packages.
        options: what the class is made with.
        default: whether the pipeline runs it when none is named.
        published: whether it has published data, which `data` names.
        surroundings: `module:function` that returns what else on this machine decides its records; "" for nothing.
    """

    name: str
    title: str
    target: str
    options: type[Options]
    default: bool
    published: bool
    surroundings: str

    @property
    def module(self) -> str:
        """The module of the benchmark's class."""
        return self.target.partition(":")[0]


def register(
    name: str,
    title: str,
    benchmark: str | type[Benchmark],
    options: type[Options] = Options,
    *,
    default: bool = False,
    published: bool = True,
    surroundings: str = "",
) -> Entry:
    """Makes a benchmark known by its name; called when the module that declares the benchmark is imported.

    Args:
        name: lower case letters, digits and underscores.
        title: as people write it.
        benchmark: the class, or `module:Class` where importing it takes seconds or needs further packages.
        options: `Options`, or a subclass with the benchmark's own.
        default: whether it is one of those that the pipeline runs; dvc.yaml lists the same ones, so that only a suite
            of this project can be.
        published: whether `data` means anything to it.
        surroundings: `module:function`; the function returns a mapping of names to paths, whose files' names and sizes
            count, and to JSON values: simulators that are installed, folders that the environment names.

    Returns:
        The entry.

    Raises:
        ValueError: another benchmark has the name, the name is not valid, or the options redeclare a shared one.
    """
    target = benchmark if isinstance(benchmark, str) else f"{benchmark.__module__}:{benchmark.__qualname__}"
    entry = Entry(name, title, target, options, default, published, surroundings)
    if not _NAME.fullmatch(name) or name in Options.model_fields:
        raise ValueError(f"{name!r} cannot name a benchmark; take lower case letters, digits and underscores")
    if target.count(":") != 1:
        raise ValueError(f"the benchmark {name} must be a class or `module:Class`, not {target!r}")
    if default and not target.startswith(f"{SUITES}."):
        raise ValueError(f"{name} cannot be one of the pipeline's own benchmarks: it is not in {SUITES}")
    own = (base for base in options.__mro__ if issubclass(base, Options) and base is not Options)
    if again := [field for base in own for field in base.__annotations__ if field in Options.model_fields]:
        raise ValueError(f"the options of {name} declare {again[0]!r}, which all benchmarks share; rename it")
    known = _ENTRIES.get(name)
    if known is not None and known.target != target:
        raise ValueError(f"{name} is registered as {known.target}; give {target} another name")
    _ENTRIES[name] = entry
    return entry


def entries() -> dict[str, Entry]:
    """Every benchmark that is known, by name: those that the pipeline runs first, each group in alphabetical order."""
    _discover()
    return {entry.name: entry for entry in sorted(_ENTRIES.values(), key=lambda e: (not e.default, e.name))}


def names(*, default: bool = False) -> tuple[str, ...]:
    """The names of `entries`; with `default`, of those that the pipeline runs when none is named."""
    return tuple(name for name, entry in entries().items() if entry.default or not default)


def get(name: str) -> Entry:
    """A benchmark by its name, or by `module:Class`, whose module must register it.

    Raises:
        UnknownBenchmarkError: there is none.
    """
    if ":" in name:
        return _named(name)
    found = entries()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"benchmarks are {', '.join(found)}"
        raise UnknownBenchmarkError(f"there is no benchmark {name!r}; {hint}")
    return found[name]


def make(name: str, options: Options) -> Benchmark:
    """The benchmark of this name.

    Raises:
        UnknownBenchmarkError: there is none.
        BenchmarkDataError: its data is not there, or not as published.
        TypeError: the options are those of another benchmark.
    """
    entry = get(name)
    if not isinstance(options, entry.options):
        raise TypeError(f"{entry.name} takes {entry.options.__name__}, not {type(options).__name__}")
    made: Benchmark = attribute(entry.target)(options)
    return made


def attribute(target: str) -> Any:
    """What `module:name` refers to."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _named(target: str) -> Entry:
    module = target.partition(":")[0]
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a package that the module needs, and not the module
        raise UnknownBenchmarkError(f"there is no module {module!r}; start in its directory, or install it") from error
    found = next((entry for entry in _ENTRIES.values() if entry.target == target), None)
    if found is None:
        raise UnknownBenchmarkError(f"{module} does not register {target}; call {__name__}.register in it")
    return found


@cache
def _discover() -> None:
    suites = importlib.import_module(SUITES)
    for found in pkgutil.iter_modules(suites.__path__, f"{SUITES}."):
        importlib.import_module(f"{found.name}.suite" if found.ispkg else found.name)
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except (ImportError, AttributeError, ValueError) as error:  # which must not hide all other benchmarks
            warnings.warn(f"the benchmark {point.value} cannot be used: {error}", stacklevel=2)
