"""Code of the user's own, such as an environment that params.yaml names as `module:Class`: where it is looked for.

It lies in the folder or file of the project that `extensions` names, whose contents DVC knows, or in an installed
package, whose version it knows. From anywhere else a result would depend on what DVC cannot see.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import machinery, metadata
from pathlib import Path
from typing import Any

from pipelines.core.errors import PipelineError
from pipelines.core.sources import SourceTree
from vldac.config import Config

#: Packages of the project, on which the stage `code` depends as a whole.
PACKAGES = ("vldac", "envs", "benchmarks", "pipelines")
_ENTRY_POINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
#: An id of Gymnasium's with the module that registers it, `gymnasium:module:Name-v0`.
_REGISTERED = re.compile(r"gymnasium:([A-Za-z_][\w.]*:.+)")


def search_path(root: Path, config: Config) -> Path:
    """The directory that is on `sys.path` for the sake of `extensions`.

    Raises:
        PipelineError: `extensions` is not in the project.
    """
    path = (root / config.extensions).resolve()
    if not path.is_relative_to(root.resolve()) or path == root.resolve():
        raise PipelineError(f"extensions: {config.extensions} is not in the project; name a folder or file of it")
    return path.parent if path.is_file() else path


def make_importable(root: Path, config: Config) -> None:
    """Lets this process import what lies in `extensions`."""
    path = str(search_path(root, config))
    if path not in sys.path:
        sys.path.append(path)
        importlib.invalidate_caches()


def environment(root: Path, config: Config, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child process that can import what lies in `extensions`.

    Args:
        root: the project.
        config: names `extensions`.
        base: what it is made from; None takes this process's own.
    """
    env = dict(os.environ if base is None else base)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(search_path(root, config))]))
    return env


def entry_points(config: Config) -> dict[str, str]:
    """Every value of the form `module:Class` or `module:ID` (after `gymnasium:`), by its key, such as `env.id`."""
    return dict(_entry_points(config.model_dump(mode="json"), ""))


def _entry_points(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _entry_points(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield from _entry_points({str(i): item for i, item in enumerate(value)}, f"{prefix}{key}.")
        elif isinstance(value, str) and (registered := _REGISTERED.fullmatch(value)):
            yield prefix + key, registered[1]
        elif isinstance(value, str) and _ENTRY_POINT.fullmatch(value):
            yield prefix + key, value


def check(root: Path, config: Config) -> None:
    """Checks that DVC would see a change of every `module:Class` of the configuration.

    Raises:
        PipelineError: one lies elsewhere, or is not there at all, or `extensions` is not.
    """
    if not (root / config.extensions).exists():
        raise PipelineError(f"extensions: {root / config.extensions} does not exist; create the folder or name another")
    for key, value in entry_points(config).items():
        _check(root, config, key, value)


def packaged(root: Path, config: Config) -> list[Path]:
    """The files and folders that, side by side on `sys.path`, let another machine import what lies in `extensions`.

    None where the configuration names nothing of it. Otherwise all of it, since modules may use each other: the folder
    itself for names such as `extensions.corridor:Corridor`, and what is in it for `corridor:Corridor`.
    """
    modules = [value.partition(":")[0] for value in entry_points(config).values()]
    if not any(_below(root, config, module) for module in modules):
        return []
    own = (root / config.extensions).resolve()
    if own.is_file():
        return [own]
    inside = (path for path in own.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name.isidentifier()))
    return [own, *sorted(path for path in inside if path.name != "__pycache__")]


def _check(root: Path, config: Config, key: str, value: str) -> None:
    module = value.partition(":")[0]
    top = module.partition(".")[0]
    if top in PACKAGES or _below(root, config, module) or _installed(top):
        return
    spec = machinery.PathFinder.find_spec(top, [str(root), *sys.path])
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    where = next((place for place in places if place), None)
    if where is None:
        raise PipelineError(
            f"{key} {value}: there is no module {module} in {config.extensions}, and no installed package has it; "
            "put it there, or install it"
        )
    raise PipelineError(
        f"{key} {value}: {where} lies outside `extensions` ({config.extensions}), so DVC would not see its changes; "
        "move it there or set `extensions`"
    )


def _below(root: Path, config: Config, module: str) -> bool:
    own = (root / config.extensions).resolve()
    file = SourceTree((root.resolve(), search_path(root, config))).find(module)
    return file is not None and file.is_relative_to(own)


def _installed(top: str) -> bool:
    """Whether a distribution holds a package, other than one that only points to a folder under development."""
    for name in metadata.packages_distributions().get(top, ()):
        described = metadata.distribution(name).read_text("direct_url.json")
        if not (described and json.loads(described).get("dir_info", {}).get("editable")):
            return True
    return False
