"""Stage `code`: the files and the installed packages that each other stage's result depends on.

Each other stage depends on its own manifest, so that an edit makes again exactly what imports the edited file. DVC runs
this stage when a file of the project has changed; `make run` also when an installed version has (`has_changed`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vldac
from benchmarks.harness import registry
from pipelines.core import errors, extensions
from pipelines.core.project import read_json
from pipelines.core.sources import Closure, SourceTree
from pipelines.stages.common import arguments
from pipelines.tracking.benchmark_scores import STAGES as BENCHMARKS
from vldac.config import Config, load
from vldac.utils.files import write_json

DIRECTORY = "data/code"
#: Packages whose modules are named by the configuration, and not by the file that uses them.
REGISTRIES = ("vldac.algorithms", "vldac.engines", "vldac.models")
#: What decides no result: values are tracked one by one and not by the code that checks them; the plan is only
#: printed; of the simulators the configured one counts, through data/environment/manifest.json; and neither how stages
#: are started nor how they are tracked changes what they make.
NEUTRAL = (
    "vldac.config",
    "vldac.plan",
    "envs.registry",
    "pipelines.core",
    "pipelines.tracking",
    "pipelines.stages.code",
    "pipelines.stages.common",
)


@dataclass(frozen=True)
class Source:
    """What a stage runs.

    Attributes:
        modules: those that are started or imported first.
        sections: of the configuration, whose values of the form `module:Class` the stage imports.
    """

    modules: tuple[str, ...]
    sections: tuple[str, ...] = ()


SOURCES = {
    "base": Source(("vldac.warm_start",), ("model", "warm_start")),
    "train": Source(("vldac.train",), ("model", "rollout", "train", "deepspeed")),
    "evaluate": Source(("vldac.evaluation.episodes", "pipelines.stages.evaluate"), ("model", "rollout", "evaluate")),
    "benchmark-data": Source(("pipelines.stages.benchmark_data",)),
    "report": Source(("benchmarks.report.__main__", "pipelines.stages.report")),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes data/code/, a manifest a stage."""
    options = arguments(argv, __doc__, params=Path("params.yaml"))
    write(options.root, load(options.root / options.params))
    return 0


def write(root: Path, config: Config) -> None:
    """Writes down what each stage depends on; see `build_manifests`."""
    manifests = build_manifests(root, config)
    shutil.rmtree(root / DIRECTORY, ignore_errors=True)
    for name, value in manifests.items():
        write_json(root / DIRECTORY / f"{name}.json", value)


def has_changed(root: Path, config: Config) -> bool:
    """Whether a stage depends on other things than `write` has written down, or it has written nothing yet.

    Then too the stage is to run: what DVC has kept of it knows files and parameters, and not the versions of packages.
    """
    if not (root / DIRECTORY).is_dir():
        return True
    written = {path.stem: read_json(path) for path in (root / DIRECTORY).glob("*.json")}
    return written != build_manifests(root, config)


def build_manifests(root: Path, config: Config) -> dict[str, dict[str, Any]]:
    """The manifest of each stage, by its name, that of a benchmark as `benchmark-NAME`.

    Raises:
        PipelineError: the configuration names code that DVC would not see (`extensions.check`), or a file is no Python.
    """
    extensions.check(root, config)
    tree = source_tree(root, config)
    try:
        return _build_manifests(tree, config)
    except SyntaxError as error:
        raise errors.PipelineError(f"{error.filename}:{error.lineno}: {error.msg}; correct it and run again") from None


def policy_digest(root: Path, config: Config) -> str:
    """SHA-256 (hex) over the manifests of what makes a policy and evaluates it: simulator, base, training, evaluation.

    Raises:
        PipelineError: as `build_manifests`.
    """
    from envs import registry as environments  # noqa: PLC0415  # takes half a second

    extensions.check(root, config)
    tree = source_tree(root, config)
    modules = [environments.spec(config.env.id).entry_point.partition(":")[0], "envs.wrappers", *_mixture(config)]
    modules += ["vldac.warm_start", "vldac.train", "vldac.evaluation.episodes"]
    own = _own_modules(config, ("env", "model", "warm_start", "rollout", "train", "deepspeed", "evaluate"))
    return _digest(tree, lambda: tree.closure([*modules, *own], without=NEUTRAL))


def benchmark_digest(root: Path, config: Config, benchmark: str) -> str:
    """SHA-256 (hex) over the manifest of a benchmark, given the model.

    Raises:
        PipelineError: as `build_manifests`.
        UnknownBenchmarkError: there is no such benchmark.
    """
    extensions.check(root, config)
    tree = source_tree(root, config)
    return _digest(tree, lambda: benchmark_closure(tree, config, benchmark))


def _digest(tree: SourceTree, closure: Callable[[], Closure]) -> str:
    try:
        manifest = tree.manifest(closure())
    except SyntaxError as error:
        raise errors.PipelineError(f"{error.filename}:{error.lineno}: {error.msg}; correct it and run again") from None
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _build_manifests(tree: SourceTree, config: Config) -> dict[str, dict[str, Any]]:
    closures = {"environment": _environment_closure(tree, config)}
    for name, source in SOURCES.items():
        own = _own_modules(config, source.sections) + (_mixture(config) if name == "base" else [])
        closures[name] = tree.closure([*source.modules, *own], without=NEUTRAL)
    surroundings = [e.surroundings.partition(":")[0] for e in registry.entries().values() if e.surroundings]
    data = SOURCES["benchmark-data"].modules
    closures["benchmark-data"] = tree.closure([*data, *surroundings], without=NEUTRAL)
    closures |= {f"benchmark-{name}": benchmark_closure(tree, config, name) for name in BENCHMARKS}
    return {name: tree.manifest(closure) for name, closure in closures.items()}


def source_tree(root: Path, config: Config) -> SourceTree:
    """The project's modules and those of `extensions`; packages that are not there count as they are installed."""
    from envs import registry as environments  # noqa: PLC0415  # takes half a second

    named = {name: environments.spec(name).entry_point.partition(":")[0] for name in environments.registered()}
    roots = (root.resolve(), extensions.search_path(root, config))
    installed = Path(vldac.__file__).parents[1]
    places = {name: installed for name in extensions.PACKAGES if not (root / name).is_dir()}
    return SourceTree(roots, names=named, whole=REGISTRIES, places=places)


def _environment_closure(tree: SourceTree, config: Config) -> Closure:
    """Of the stage `environment` and of the simulator that it renders.

    Raises:
        PipelineError: no environment has the configured id.
    """
    from envs import registry as environments  # noqa: PLC0415
    from envs.base import UnknownEnvError  # noqa: PLC0415

    try:
        module = environments.spec(config.env.id).entry_point.partition(":")[0]
    except UnknownEnvError as error:
        raise errors.PipelineError(f"env.id: {error}") from None
    own = _own_modules(config, ("env",))
    modules = [module, *own, "envs.wrappers", "pipelines.stages.config", "pipelines.stages.environment"]
    modules += [entry.options.__module__ for entry in registry.entries().values()]  # config.yaml holds their defaults
    # config.yaml, which this stage writes, does follow from the code that checks values and reads presets.
    return tree.closure(modules, without=[name for name in NEUTRAL if name != "vldac.config"])


def benchmark_closure(tree: SourceTree, config: Config, benchmark: str) -> Closure:
    """Of a benchmark; the others of the registry do not count."""
    entry = registry.get(benchmark)
    own = _own_modules(config, ("model", "benchmarks"))
    return tree.closure(["benchmarks.__main__", entry.module, entry.options.__module__, *own], without=NEUTRAL)


def _mixture(config: Config) -> list[str]:
    """The modules of the environments that the base model sees besides that of the run.

    Raises:
        PipelineError: there is no such environment.
    """
    from envs import registry as environments  # noqa: PLC0415
    from envs.base import UnknownEnvError  # noqa: PLC0415

    try:
        return [environments.spec(part.id).entry_point.partition(":")[0] for part in config.warm_start.mixture]
    except UnknownEnvError as error:
        raise errors.PipelineError(f"warm_start.mixture: {error}") from None


def _own_modules(config: Config, sections: Sequence[str]) -> list[str]:
    named = extensions.entry_points(config).items()
    return [value.partition(":")[0] for key, value in named if key.partition(".")[0] in sections]


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
