"""An environment by the name of a preset: `numberline` stands for conf/env/numberline.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from envs import registry
from vldac.config import presets, texts
from vldac.config.schema import ConfigError, EnvConfig, parse


def named(name: str, root: Path, options: Mapping[str, Any] = MappingProxyType({})) -> EnvConfig | None:
    """The section `env` that a name stands for.

    Args:
        name: of an environment or a preset.
        root: the project; its presets count, or where it has none, those that come with this code.
        options: `env.options` that change those of the preset.

    Returns:
        The section; None where no preset has the name, which is an environment's id then.

    Raises:
        ConfigError: the preset is wrong.
        PresetError: its file is damaged.
    """
    folder = presets.folder_of(root / "params.yaml")
    if name in registry.registered() or name not in presets.names("env", folder):
        return None
    section: dict[str, Any] = {presets.KEY: name, **({"options": options} if options else {})}
    try:
        return parse(texts.with_template(presets.resolve({"env": section}, frozenset({"env"}), folder))).env
    except texts.TemplateFileError as error:
        raise ConfigError(str(error)) from None


def require(name: str, root: Path) -> None:
    """Checks that a name is that of a preset or an environment.

    Raises:
        UnknownEnvError: it is neither.
        ConfigError: the preset is wrong.
        PresetError: its file is damaged.
    """
    if named(name, root) is None:
        registry.spec(name)
