"""A study as typed, validated values, read from a YAML file; `matrix` has the runs that follow from it."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from vldac.config import ConfigError, explain, presets

Name = Annotated[str, Field(pattern=r"^[\w.:=, ()+-]+$")]
Positive = Annotated[int, Field(ge=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
#: `section.key: value`, or `section: preset`, in the order in which they apply.
Overrides = dict[str, JsonValue]

#: Folder of the profiles, in that of the presets.
FOLDER = "study"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Environment(_Entry):
    """An environment.

    Attributes:
        name: that tables and figures show.
        overrides: of every cell in it, usually presets.
        algorithms: overrides of some algorithms here, by their labels, such as a rollout as long as an episode.
    """

    name: Name
    overrides: Overrides = Field(default_factory=dict)
    algorithms: dict[str, Overrides] = Field(default_factory=dict)


class Exam(_Entry):
    """An environment that every trained policy but those of the grid, and its base model, are evaluated in besides.

    Attributes:
        name: that tables and figures show.
        overrides: usually a preset of `env`.
    """

    name: Name
    overrides: Overrides = Field(default_factory=dict)


class _Labeled(_Entry):
    """An entry that is written as its name alone where nothing else is said of it."""

    name: Name
    label: Name | None = None
    overrides: Overrides = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def shown(self) -> str:
        """The name in tables and figures, by which others name it."""
        return self.label or self.name


class Benchmark(_Labeled):
    """A benchmark that every trained policy but those of the grid, and its base model, are put to.

    Written as its name alone where nothing else is said of it. Its options are the section `benchmarks` of the
    study's configuration.

    Attributes:
        name: under which it is registered, as for `python -m benchmarks --benchmark`.
        label: that tables and figures show; None: the name.
        overrides: such as `benchmarks.limit: 20`.
    """

    name: Annotated[str, Field(pattern=r"^\w+$")]


class Algorithm(_Labeled):
    """An algorithm of `train.algorithm`, written as its name alone where it has no options.

    Attributes:
        name: of the algorithm.
        label: that tables and figures show; None: the name.
        options: `train.algorithm_options`.
        overrides: of this algorithm alone.
    """

    options: dict[str, JsonValue] = Field(default_factory=dict)


class Ablation(_Entry):
    """Changes of one algorithm.

    Attributes:
        name: that tables and figures show.
        algorithm: by its label.
        options: take the place of the algorithm's own, key by key.
        overrides: of the algorithm's configuration.
        environments: by their names; none: all.
    """

    name: Name
    algorithm: str = "vldac"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    overrides: Overrides = Field(default_factory=dict)
    environments: list[str] = Field(default_factory=list)


class Grid(_Entry):
    """The same hyperparameters for every algorithm, so that none is tuned more than another.

    Attributes:
        values: by key, those to try.
        product: every combination; otherwise one key at a time, the others as the study has them.
        environments: by their names; none: all.
        seeds: of each point.
        overrides: of all points, such as fewer steps.
    """

    values: dict[str, Annotated[list[JsonValue], Field(min_length=1)]]
    product: bool = False
    environments: list[str] = Field(default_factory=list)
    seeds: Seeds = Field(default_factory=lambda: [0])
    overrides: Overrides = Field(default_factory=dict)

    def points(self) -> list[Overrides]:
        """The changes of each point."""
        if self.product:
            return [dict(zip(self.values, point, strict=True)) for point in itertools.product(*self.values.values())]
        return [{key: value} for key, values in self.values.items() for value in values]


class Study(_Entry):
    """A study; `read` takes it from a YAML file.

    Attributes:
        name: of its results.
        params: params file that every cell starts from.
        overrides: of every cell, before those of its environment.
        environments: to learn in.
        algorithms: to compare.
        ablations: of one algorithm each.
        seeds: of every cell but the grid's.
        base_per_seed: each seed has a base model of its own; otherwise an environment has one for all.
        total_steps: environment steps of every cell; None: as its environment has them.
        episodes: of each evaluation, on seeds that training never draws.
        exams: what else policies are evaluated in, those of the grid left out: what carries over, and what is lost.
        exam_episodes: of each exam that does not say otherwise.
        benchmarks: that the same policies are put to.
        threshold: success to be reached, of which the steps and the time are reported.
        grid: of hyperparameters; None for none.
        steps_per_second: of one core, from which `hours` estimates.
    """

    name: Name = "study"
    params: str = "params.yaml"
    overrides: Overrides = Field(default_factory=dict)
    environments: Annotated[list[Environment], Field(min_length=1)]
    algorithms: Annotated[list[Algorithm], Field(min_length=1)]
    ablations: list[Ablation] = Field(default_factory=list)
    seeds: Seeds
    base_per_seed: bool = False
    total_steps: Positive | None = None
    episodes: Positive = 200
    exams: list[Exam] = Field(default_factory=list)
    exam_episodes: Positive = 100
    benchmarks: list[Benchmark] = Field(default_factory=list)
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.9
    grid: Grid | None = None
    steps_per_second: Annotated[float, Field(gt=0)] = 20.0

    @model_validator(mode="after")
    def _names_lead_somewhere(self) -> Study:
        environments = [entry.name for entry in self.environments]
        algorithms = [entry.shown for entry in self.algorithms]
        for kind, names in (
            ("environment", environments),
            ("algorithm", algorithms),
            ("ablation", [entry.name for entry in self.ablations]),
            ("exam", [*(entry.name for entry in self.exams), *(entry.shown for entry in self.benchmarks)]),
            ("seed", [str(seed) for seed in self.seeds]),
        ):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{kind} {', '.join(sorted(twice))} is there twice")
        for environment in self.environments:
            for label in environment.algorithms:
                _require(f"environment {environment.name!r}: algorithm", label, algorithms)
        for ablation in self.ablations:
            _require(f"ablation {ablation.name!r}: algorithm", ablation.algorithm, algorithms)
        named = [name for ablation in self.ablations for name in ablation.environments]
        for name in [*named, *(self.grid.environments if self.grid else [])]:
            _require("environment", name, environments)
        return self


def find(profile: str) -> Path:
    """The file of a profile: conf/study/NAME.yaml of the current project, or a path.

    Raises:
        ConfigError: there is neither.
    """
    folder = presets.folder_of(Path("params.yaml"))
    if Path(profile).suffix in {".yaml", ".yml"}:
        return Path(profile)
    known = presets.names(FOLDER, folder)
    if profile not in known:
        raise ConfigError(f"unknown study {profile!r}; {_hint(profile, known)}, or give the path of a YAML file")
    return folder / FOLDER / f"{profile}.yaml"


def read(path: Path) -> Study:
    """Reads a study.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds wrong keys or values; one line for each.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping, not a {type(values).__name__}")
    return checked({"name": path.stem, **values}, str(path))


def checked(values: Mapping[str, Any], source: str) -> Study:
    """A study of these values.

    Args:
        values: of the study's fields.
        source: where they come from, for the message.

    Raises:
        ConfigError: a value is wrong; one line for each.
    """
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {_line(e)}" for e in error.errors())) from None


_ENTRIES: dict[str, type[BaseModel]] = {
    "environments": Environment,
    "algorithms": Algorithm,
    "ablations": Ablation,
    "exams": Exam,
    "benchmarks": Benchmark,
    "grid": Grid,
}


def _line(error: Any) -> str:
    """One line for one of pydantic's errors; the nearest key is one of the entry in which it was written."""
    section, *rest = error["loc"] or ("",)
    place = [section, *(part for part in rest[:1] if isinstance(part, int))]
    inside: list[Any] = rest[len(place) - 1 :]
    if section in _ENTRIES and inside:
        return f"{'.'.join(map(str, place))}: {explain({**error, 'loc': inside}, _ENTRIES[section])}"
    return explain(error, Study)


def _require(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(f"{what} {name!r} is not in the study; {_hint(name, known)}")


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
