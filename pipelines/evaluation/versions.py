"""Registered versions as the flows see them: found by number or alias, scored, evaluated again."""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.core import extensions
from pipelines.core.errors import PipelineError
from pipelines.core.project import home, params_file, read_json
from pipelines.stages import repro
from pipelines.tracking import lineage, registry, runs
from vldac.config import Config, ConfigError, load, parse

#: Sections of a params file that an evaluation may take from elsewhere; the others belong to the weights.
EVALUATION_SECTIONS = ("env", "evaluate")
#: As `vldac evaluate --policies` has them.
POLICIES = ("random", "base", "trained")
#: Seconds for which the results of an evaluation stay on disk: a week.
_KEPT = 7 * 24 * 3600


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        name: of the registered model.
        number: of the version, as MLflow writes it.
        aliases: of that version, such as `champion`.
        tags: of that version; `registry.register` says which.
        run_id: of the MLflow run that trained it.
    """

    name: str
    number: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    run_id: str | None

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"

    @property
    def score(self) -> registry.Score | None:
        """What the version was registered with, None where no evaluation has been recorded on it."""
        return registry.score_in(self.tags)

    @property
    def config(self) -> Config:
        """The parameters that it was trained with.

        Raises:
            PipelineError: they are missing, or this code no longer takes them.
        """
        try:
            return parse(json.loads(self.tags["params"]))
        except (KeyError, ValueError, ConfigError) as error:
            code = self.tags.get("git.revision", "the code that trained it")
            raise PipelineError(f"{self}: its parameters cannot be read ({error}); check out {code}") from None


def find(root: Path, name: str, selector: str) -> Version:
    """The version that a number or an alias names.

    Args:
        root: the project, whose tracking server is asked.
        name: of the registered model.
        selector: a number, or an alias with or without `@`.

    Raises:
        PipelineError: there is none, or MLflow cannot be used.
    """
    text = f"{name}/{selector}" if selector.isdecimal() else f"{name}@{selector.removeprefix('@')}"
    with runs.reachable(root):
        client = runs.client(root)
        found = lineage.find(client, text)
        aliases = client.get_registered_model(name).aliases
    number = str(found.version)
    its_own = tuple(sorted(alias for alias, of in aliases.items() if str(of) == number))
    return Version(name, number, its_own, dict(found.tags), found.run_id)


def champions(root: Path) -> list[Version]:
    """The champion of every registered model that has one, by name.

    Raises:
        PipelineError: MLflow cannot be used.
    """
    with runs.reachable(root):
        models = registry.models(runs.client(root))
        names = [model.name for model in models if registry.CHAMPION in model.aliases]
    return [find(root, name, registry.CHAMPION) for name in names]


def evaluate(
    root: Path, version: Version, config: Config, say: Callable[[str], None], *, policies: Sequence[str] = POLICIES
) -> Path:
    """Evaluates a registered version on seeds that training never saw.

    Args:
        root: the project.
        version: what is evaluated; its files are fetched from MLflow.
        config: of the evaluation: its environment, episodes and temperature.
        say: takes every line that the evaluation prints.
        policies: that are evaluated; without the base there is nothing to film it beside.

    Returns:
        A new directory below `.local` with summary.json, the episodes and, if all policies were evaluated,
        filmstrip.png; it is kept for a week.

    Raises:
        StageError: the evaluation failed.
        PipelineError: the version's files cannot be fetched.
    """
    directory = _new_directory(home(root) / "evaluations", f"{version.name}-{version.number}")
    params = directory / "params.yaml"
    params.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    try:
        with runs.reachable(root):
            found = lineage.find(runs.client(root), f"{version.name}/{version.number}")
        lineage.fetch(root, found, directory / "model")
        command = [
            *(sys.executable, "-m", "vldac.evaluation.episodes", "--params", str(params)),
            *("--base", str(directory / "model/base"), "--policy", str(directory / "model/policy")),
            *("--out", str(directory / "summary.json")),
            *("--episodes-dir", str(directory / "episodes"), "--policies", *policies),
        ]
        if set(policies) == set(POLICIES):
            command += ["--filmstrip", str(directory / "filmstrip.png")]
        env = extensions.environment(root, config, repro.environment())
        repro.follow(f"evaluation of {version}", command, say, cwd=root, env=env)
    finally:
        shutil.rmtree(directory / "model", ignore_errors=True)  # the registry has it; it may be gigabytes
    return directory


def _new_directory(parent: Path, name: str) -> Path:
    """One of this evaluation alone: others may run or be read. Those that are older than a week are removed."""
    for old in parent.glob("*.*"):
        with suppress(FileNotFoundError):  # another evaluation has removed it
            if time.time() - old.stat().st_mtime > _KEPT:
                shutil.rmtree(old)
    directory = parent / f"{name}.{uuid.uuid4().hex[:8]}"
    directory.mkdir(parents=True)
    return directory


def evaluation_config(root: Path, version: Version, params: str | None, episodes: int | None) -> Config:
    """The parameters of a benchmark: the version's own, but for what a preset and `episodes` say.

    Args:
        root: the project.
        version: what is evaluated.
        params: a params file below the project, of which the sections `EVALUATION_SECTIONS` count.
        episodes: None keeps the number that the parameters give.

    Raises:
        PipelineError: `params` is outside the project.
        ConfigError: it is not a params file.
    """
    values = version.config.model_dump(mode="json")
    if params is not None:
        other = load(params_file(root, params)).model_dump(mode="json")
        # The number of simulators in training is tied to the version's own batch size; an evaluation uses neither.
        other["env"] |= {name: values["env"][name] for name in ("num_envs", "num_workers")}
        values |= {section: other[section] for section in EVALUATION_SECTIONS}
    if episodes is not None:
        values["evaluate"]["episodes"] = episodes
    return parse(values)


def read_summary(directory: Path) -> dict[str, Any]:
    """The summary that `evaluate` left."""
    return read_json(directory / "summary.json")
