"""Sections of a configuration by name: `env: numberline` is conf/env/numberline.yaml.

A section is written in one of three ways:

    env: numberline                        # the preset; what it does not name has its default
    env: {preset: numberline, frames: 2}   # the preset with changes; nested mappings are merged key by key
    env: {id: ..., frames: 2, ...}         # its values, and no preset
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vldac.utils.errors import UserError

#: Where presets are, one folder a section.
FOLDER = Path(__file__).parents[2] / "conf"
KEY = "preset"


class PresetError(UserError, ValueError):
    """A section names a preset that cannot be used."""


def names(section: str, folder: Path = FOLDER) -> list[str]:
    """The presets of a section."""
    return sorted(path.stem for path in (folder / section).glob("*.yaml"))


def resolve(values: Mapping[str, Any], sections: frozenset[str], folder: Path = FOLDER) -> dict[str, Any]:
    """Puts the values of presets in the place of their names.

    Args:
        values: of a params file.
        sections: the keys of `values` that may name a preset.
        folder: holds the presets.

    Returns:
        The same values without a preset's name in them.

    Raises:
        PresetError: a preset is unknown, damaged, or nothing of it would be left.
    """
    return {key: _section(key, value, folder) if key in sections else value for key, value in values.items()}


def _section(section: str, value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return _read(section, value, folder)
    if not isinstance(value, Mapping) or KEY not in value:
        return value
    name = value[KEY]
    if not isinstance(name, str):
        raise PresetError(f"{section}.{KEY} must be the name of a preset, but is {name!r}")
    changes = {key: change for key, change in value.items() if key != KEY}
    preset = _read(section, name, folder)
    if preset and preset.keys() <= changes.keys():  # `preset` added to a section whose values are all written out
        raise PresetError(
            f"{section}: every value of the preset {name!r} is written over; write `{section}: {name}` without them"
        )
    return _merged(preset, changes)


def _read(section: str, name: str, folder: Path) -> dict[str, Any]:
    known = names(section, folder)
    if name not in known:  # which keeps the path inside the folder, too
        if not known:
            raise PresetError(f"{section} has no presets, so it must be a mapping of values, but is {name!r}")
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
        raise PresetError(f"unknown preset {section}: {name!r}; {hint}")
    path = folder / section / f"{name}.yaml"
    try:
        preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PresetError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(preset, dict):
        raise PresetError(f"{path} must hold a mapping, not a {type(preset).__name__}")
    return preset


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for key, change in changes.items():
        old = result.get(key)
        nested = isinstance(old, Mapping) and isinstance(change, Mapping)
        result[key] = _merged(old, change) if nested else change  # type: ignore[arg-type]  # both are mappings then
    return result
