"""`vldac play`: the models of a project, registered or in a directory, on a page where each may act."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from envs.registry import registered
from pipelines.core import extensions
from pipelines.core.errors import PipelineError, explain
from pipelines.core.project import home
from pipelines.evaluation import benchmarks
from pipelines.tracking import lineage, registry, runs
from pipelines.tracking.exports import CONTENT
from vldac import policy
from vldac.config import Config, EnvConfig, load, presets
from vldac.evaluation import environments
from vldac.evaluation.play.app import Chosen
from vldac.evaluation.play.models import Choice
from vldac.evaluation.play.serve import serve
from vldac.evaluation.watch import Player, load_base, load_player
from vldac.utils.errors import UserError
from vldac.utils.libraries import set_threads

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

POLICY = "models/policy"
_MOST = 50  # registered versions on the page, the newest first; those with an alias come after them


def play(model: str | None, *, env: str | None, port: int) -> None:
    """Serves the page until Ctrl-C.

    Args:
        model: that it opens with: NAME@champion, NAME/3, or a directory; None takes the first that there is.
        env: id or preset of the environment that it opens with; None takes that of the model's training.
        port: to listen on.

    Raises:
        PipelineError: there is no such model.
        SimulatorError: there is no such environment.
    """
    root = Path.cwd()
    extensions.make_importable(root, _config(root))
    if env is not None:
        environments.require(env, root)
    named = None if model is None else _named(root, model)
    more = [] if named is None else [named]

    def find() -> list[Choice]:
        return list({choice.name: choice for choice in [*more, *choices(root)]}.values())

    serve(find, port, Chosen(env, None if named is None else named.name), _presets(root, env))


def _config(root: Path) -> Config:
    return load(root / "params.yaml") if (root / "params.yaml").is_file() else Config()


def _presets(root: Path, chosen: str | None) -> dict[str, EnvConfig]:
    """What may be chosen by the name of a preset: what no registered id stands for, and what a person has named.

    One that is damaged is said on stderr and left out.
    """
    found: dict[str, EnvConfig] = {}
    for name in presets.names("env", presets.folder_of(root / "params.yaml")):
        try:
            env = environments.named(name, root)
        except UserError as error:
            print(f"warning: conf/env/{name}.yaml: {explain(error)}", file=sys.stderr, flush=True)
            continue
        if env is not None and (name == chosen or env.id not in registered()):
            found[name] = env
    return found


def choices(root: Path) -> list[Choice]:
    """The models of a project: the registered ones where there is a registry, the newest first; then its directories.

    A registry that cannot be reached is said on stderr, and its models are left out.
    """
    found: list[Choice] = []
    if os.environ.get("MLFLOW_TRACKING_URI") or (home(root) / "mlflow.db").exists():
        try:
            found += _registered(root)
        except PipelineError as error:
            print(f"warning: {explain(error)}", file=sys.stderr, flush=True)
    return [*found, *_directories(root)]


def _named(root: Path, model: str) -> Choice:
    """The model that a person names."""
    if benchmarks.registered(model):
        with runs.reachable(root):
            version = lineage.find(runs.client(root), model)
        return _version(root, version, ())
    directory = Path(model)
    if (directory / policy.DESCRIPTION).is_file():
        return _policy(root, directory)
    if (directory / "config.json").is_file() or (directory / policy.POINTER).is_file():
        return _base(root, directory)
    raise PipelineError(f"{model} holds no model; train one with `vldac run`, or name another")


def _registered(root: Path) -> Iterator[Choice]:
    with runs.reachable(root):
        client = runs.client(root)
        aliases: dict[tuple[str, str], list[str]] = {}
        for model in registry.models(client):
            for alias, number in model.aliases.items():
                aliases.setdefault((model.name, str(number)), []).append(alias)
        found = list(client.search_model_versions(registry.NAMES, _MOST, ["creation_timestamp DESC"]))
        newest = {(version.name, str(version.version)) for version in found}
        found += [client.get_model_version(*named) for named in aliases if named not in newest]
        for version in found:
            yield _version(root, version, aliases.get((version.name, str(version.version)), ()))


def _version(root: Path, version: ModelVersion, aliases: Sequence[str]) -> Choice:
    name = f"{version.name}/{version.version}"
    score = registry.score_of(version)
    notes = [*(f"@{alias}" for alias in sorted(aliases)), *([f"success {score.success:.3f}"] if score else [])]
    environment = json.loads(version.tags.get("params", "{}")).get("env", {}).get("id")
    return Choice(
        name,
        ", ".join(notes),
        environment,
        lambda: _load(root, f"models:/{name}"),
        lambda: version.tags.get(CONTENT),  # a number is given again where its whole model was deleted
    )


def _directories(root: Path) -> Iterator[Choice]:
    if (root / POLICY / policy.DESCRIPTION).is_file():
        yield _policy(root, Path(POLICY))
    base = root / benchmarks.BASE
    if (base / "config.json").is_file() or (base / policy.POINTER).is_file():
        yield _base(root, Path(benchmarks.BASE))


def _policy(root: Path, directory: Path) -> Choice:
    environment = policy.recorded_config(directory, "env").env.id

    def stamp() -> object:
        base = Path(benchmarks.base_of(root, directory))
        return policy.stamp(directory, *([base] if base.is_dir() else []))  # or it is on the hub

    return Choice(str(directory), "directory", environment, lambda: _load(root, str(directory)), stamp)


def _base(root: Path, directory: Path) -> Choice:
    """A model before training, which plays as the project's parameters say."""
    config = _config(root)
    return Choice(
        str(directory),
        "before training",
        config.env.id,
        lambda: _ready(load_base(str(directory), config, "base")),
        lambda: (config, policy.stamp(directory)),
    )


def _load(root: Path, model: str) -> Player:
    with benchmarks.opened(root, model) as subject:
        extensions.make_importable(root, subject.code)
        paths = dict(zip(subject.paths[::2], subject.paths[1::2], strict=True))
        return _ready(load_player(paths["--base"], Path(paths["--policy"]), model))


def _ready(player: Player) -> Player:
    set_threads(player.config.deepspeed.threads)
    return player
