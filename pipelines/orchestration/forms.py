"""What Prefect's forms offer and its server refuses at submission, taken from the configuration itself.

A server checks what is submitted against the JSON schema of a deployment and runs no code of ours: lists to choose from
and patterns are all that it knows. They are those of the project in which the deployments were created; values are
checked when a run starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel

from benchmarks.harness import registry
from pipelines.core.errors import PipelineError
from vldac.config import Config, presets, strict_yaml

_VALUE = r"=[^\r\n]*$"
#: Of a mapping whose keys the configuration does not know, such as `env.options`.
_FREE = r"(\.[A-Za-z_][A-Za-z0-9_]*)*"


def preset_names() -> list[str]:
    """Every preset of the project in the current directory, as an override: `env=numberline`."""
    folder = presets.folder_of(Path("params.yaml"))
    return [f"{section}={name}" for section in Config.model_fields for name in presets.names(section, folder)]


def override_pattern() -> str:
    """A regular expression of `section.key=value` whose keys are those of the configuration."""
    return f"^({_keys(Config)}){_VALUE}"


def _keys(section: type[BaseModel]) -> str:
    alternatives = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            alternatives.append(rf"{name}(\.({_keys(kind)}))?")
        else:
            alternatives.append(name + (_FREE if get_origin(kind) is dict else ""))
    return "|".join(alternatives)


def option_pattern() -> str:
    """A regular expression of `name=value` whose names are those of the benchmarks' options."""
    names = sorted({name for entry in registry.entries().values() for name in entry.options.model_fields})
    return f"^({'|'.join(names)}){_VALUE}"


def options_of(names: Sequence[str], given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The options of each benchmark out of `name=value`: those that it has.

    Raises:
        PipelineError: none of the benchmarks has one of them, or it is no value.
    """
    values: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            values[name] = strict_yaml.parse(value)
        except strict_yaml.YAMLTextError as error:
            raise PipelineError(f"{name}: {error}") from None
    fields: Mapping[str, Any] = {name: registry.get(name).options.model_fields for name in names}
    if unknown := [name for name in values if not any(name in known for known in fields.values())]:
        raise PipelineError(
            f"{', '.join(names)} has no option {unknown[0]}; leave it out"
            if names
            else f"{unknown[0]} is an option of benchmarks, and none is named; name one, or leave the option out"
        )
    return {name: {key: value for key, value in values.items() if key in fields[name]} for name in names}
