"""Sections of a configuration by name: `env: numberline` is conf/env/numberline.yaml.

A section is written in one of three ways:

    env: numberline                        # the preset; what it does not name has its default
    env: {preset: numberline, frames: 2}   # the preset with changes; nested mappings are merged key by key
    env: {id: ..., frames: 2, ...}         # its values, and no preset

Presets are those of the project that a params file is in, else of the checkout that this code is in, else those that
were installed with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vldac.config import strict_yaml
from vldac.utils.errors import UserError

#: The folder of presets, with one folder a section in it.
CONF = "conf"
KEY = "preset"
#: What `vldac new` copies into a project, in an installed package (setup.py puts it there).
_INSTALLED = Path(__file__).parents[1] / "project"
_CHECKOUT = Path(__file__).parents[2]


class PresetError(UserError, ValueError):
    """A section names a preset that cannot be used."""


def template() -> Path:
    """The directory with params.yaml, dvc.yaml, prefect.yaml and conf/: the checkout, or their installed copies."""
    return _CHECKOUT if _is_project(_CHECKOUT) else _INSTALLED


def folder_of(params: Path) -> Path:
    """The folder of the presets that a params file may name."""
    inside = params.resolve().parent
    homes = (inside, inside.parent)  # conf/numberline.yaml belongs to the project above it
    return next((home for home in homes if _is_project(home)), template()) / CONF


def _is_project(directory: Path) -> bool:
    return (directory / "dvc.yaml").is_file() and (directory / CONF).is_dir()


def names(section: str, folder: Path | None = None) -> list[str]:
    """The presets of a section; `folder` holds the presets, by default those that come with this code."""
    return sorted(path.stem for path in ((folder or template() / CONF) / section).glob("*.yaml"))


def resolve(values: Mapping[str, Any], sections: frozenset[str], folder: Path | None = None) -> dict[str, Any]:
    """Puts the values of presets in the place of their names.

    Args:
        values: of a params file.
        sections: the keys of `values` that may name a preset.
        folder: holds the presets; by default those that come with this code.

    Returns:
        The same values without a preset's name in them.

    Raises:
        PresetError: a preset is unknown, damaged, or nothing of it would be left.
    """
    folder = folder or template() / CONF
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
        preset = strict_yaml.read(path)
    except strict_yaml.YAMLTextError as error:
        raise PresetError(f"{path}: {error}") from None
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
