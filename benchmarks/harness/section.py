"""The section `benchmarks` of a params file: the shared options at its top, and a section of its own for each suite.

    benchmarks:
      profile: short
      balrog:
        agent: cot

`vldac.config` keeps the section as it is written, because the method knows no benchmark; `parse` validates it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from benchmarks.harness import registry
from benchmarks.harness.options import Options, Section, SharedOptions, Style
from vldac.config import ConfigError, explain

KEY = "benchmarks"


class BenchmarksSection(SharedOptions):
    """The validated section; `parse` makes it, with a field for each suite that has options of its own."""

    def options(self, name: str, *, style: Style, data: Path | None = None) -> Options:
        """The options of one benchmark.

        Args:
            name: of the benchmark.
            style: of the prompts, which the section does not hold.
            data: of this benchmark; the section names a folder that holds a folder for each benchmark.

        Raises:
            UnknownBenchmarkError: there is no such benchmark.
            pydantic.ValidationError: the options contradict each other.
        """
        entry = registry.get(name)
        own = getattr(self, entry.name, None)
        values = {field: getattr(self, field) for field in SharedOptions.model_fields}
        values |= {} if own is None else {field: getattr(own, field) for field in type(own).model_fields}
        return entry.options.model_validate(values | {"style": style, "data": data})

    def folder_of(self, name: str, root: Path = Path()) -> Path | None:
        """The folder with the published data of a benchmark, None where its synthetic set is to be taken.

        Args:
            name: of the benchmark.
            root: what `data` is relative to.

        Raises:
            ConfigError: `data` names a folder that holds no benchmark's data, as a wrong name or another machine does.
        """
        if self.data is None:
            return None
        folder = root / self.data
        if not any((folder / known).is_dir() for known in registry.names()):
            raise ConfigError(
                f"{KEY}.data: {folder} holds no data of a benchmark, such as {folder / 'vsi_bench'}; "
                "put it there, or name another folder (null takes the synthetic sets)"
            )
        return folder / name if (folder / name).is_dir() else None


def model() -> type[BenchmarksSection]:
    """The section as a model, with the options of every benchmark that is registered."""
    suites: dict[str, Any] = {}
    for name, entry in registry.entries().items():
        if own := entry.options.own():
            fields: dict[str, Any] = {field: (info.annotation, info) for field, info in own.items()}
            section = create_model(f"{entry.options.__name__}Section", __base__=Section, **fields)
            suites[name] = (section, section())
    return create_model("BenchmarksSection", __base__=BenchmarksSection, **suites)


def parse(values: Mapping[str, Any]) -> BenchmarksSection:
    """Validates the section.

    Args:
        values: JSON values, as `vldac.config.Config.benchmarks` holds them.

    Raises:
        ConfigError: one line for each wrong key or value.
    """
    section = model()
    root = create_model("Root", __base__=Section, **{KEY: (section, ...)})  # type: ignore[call-overload]  # made by name
    try:
        parsed: BenchmarksSection = getattr(root.model_validate_json(json.dumps({KEY: dict(values)})), KEY)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(e, root) for e in error.errors())) from None
    problems = []
    for name in registry.names():
        try:
            parsed.options(name, style="full")
        except ValidationError as error:
            problems += [_within(name, e) for e in error.errors()]
    if problems:
        raise ConfigError("\n".join(problems))
    return parsed


def _within(name: str, error: Any) -> str:
    """A line for an error that only the options of one benchmark, taken together, have."""
    return explain({**error, "loc": (KEY, name, *error["loc"])}, BaseModel)
