"""A study as typed, validated values, and the cells that follow from it: one run to train and evaluate each."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from vldac.config import Config, ConfigError, explain, load, presets

Name = Annotated[str, Field(pattern=r"^[\w.:=, ()+-]+$")]
Positive = Annotated[int, Field(ge=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
#: `section.key: value`, or `section: preset`, in the order in which they apply.
Overrides = dict[str, JsonValue]
Kind = Literal["main", "ablation", "grid"]

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
    steps_per_second: Annotated[float, Field(gt=0)] = 40.0

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


class Place(NamedTuple):
    """Where in a study a run is; see `Cell`."""

    kind: Kind
    environment: str
    algorithm: str
    variant: str
    seed: int


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        kind: of the comparison itself, an ablation, or a point of the grid.
        environment: by its name in the study.
        algorithm: by its label.
        variant: name of the ablation or the point; empty for the comparison itself.
        seed: of the run.
        config: of the run.
        base_config: of the base model that it starts from.
        exams: what else its policy is evaluated in, by name.
        benchmarks: that its policy is put to, by label: the name of the benchmark, and its configuration.
    """

    kind: Kind
    environment: str
    algorithm: str
    variant: str
    seed: int
    config: Config
    base_config: Config
    exams: Mapping[str, Config] = field(default_factory=dict)
    benchmarks: Mapping[str, tuple[str, Config]] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join([self.environment, self.algorithm, *filter(None, [self.variant]), f"seed {self.seed}"])


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
    try:
        return Study.model_validate({"name": path.stem, **values})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_line(e)}" for e in error.errors())) from None


def cells(study: Study, extra: Sequence[str] = ()) -> list[Cell]:
    """Every run of a study: the comparison, the ablations, the grid.

    Seed by seed: a study that is stopped has as many seeds of each algorithm.

    Args:
        study: to run.
        extra: overrides of every cell that win over all others, such as `model.base=...`.

    Raises:
        ConfigError: the configuration of a cell is wrong; the message names the cell.
    """
    return list(_cells(study, extra))


def _cells(study: Study, extra: Sequence[str]) -> Iterator[Cell]:
    everywhere, algorithms = [entry.name for entry in study.environments], [entry.shown for entry in study.algorithms]
    for environment, seed, algorithm in itertools.product(everywhere, study.seeds, algorithms):
        yield _cell(study, Place("main", environment, algorithm, "", seed), extra)
    for seed, ablation in itertools.product(study.seeds, study.ablations):
        for environment in ablation.environments or everywhere:
            about = Place("ablation", environment, ablation.algorithm, ablation.name, seed)
            yield _cell(study, about, extra, ablation.overrides, ablation.options)
    if study.grid is not None:
        grid = study.grid
        where = itertools.product(grid.environments or everywhere, algorithms, grid.points(), grid.seeds)
        for environment, algorithm, point, seed in where:
            about = Place("grid", environment, algorithm, _point_name(point), seed)
            yield _cell(study, about, extra, {**grid.overrides, **point})


def _cell(
    study: Study,
    place: Place,
    extra: Sequence[str],
    changes: Mapping[str, JsonValue] = MappingProxyType({}),
    options: Mapping[str, JsonValue] = MappingProxyType({}),
) -> Cell:
    environment = next(entry for entry in study.environments if entry.name == place.environment)
    algorithm = next(entry for entry in study.algorithms if entry.shown == place.algorithm)
    whose: list[Mapping[str, JsonValue]] = [
        study.overrides,
        environment.overrides,
        {"train.total_steps": study.total_steps} if study.total_steps else {},
        {"evaluate.episodes": study.episodes},
        algorithm.overrides,
        environment.algorithms.get(place.algorithm, {}),
        {"train.algorithm": algorithm.name, "train.algorithm_options": {**algorithm.options, **options}},
        changes,
    ]
    name = ", ".join(filter(None, (place.environment, place.algorithm, place.variant)))
    _require_kept([key for values in whose for key in values], name)
    overrides = [each for values in whose for each in as_overrides(values)]
    config = _load(study.params, [*overrides, *extra, f"seed={place.seed}"], name)
    base_seed = place.seed if study.base_per_seed else study.seeds[0]
    base = config.model_copy(update={"seed": base_seed})
    if place.kind == "grid":
        return Cell(*place, config, base)
    exams = {
        exam.name: _asked(study, {"evaluate.episodes": study.exam_episodes, **exam.overrides}, extra, place, exam.name)
        for exam in study.exams
    }
    benchmarks = {
        each.shown: (each.name, _asked(study, each.overrides, extra, place, each.shown)) for each in study.benchmarks
    }
    return Cell(*place, config, base, exams, benchmarks)


def _require_kept(keys: Sequence[str], name: str) -> None:
    """Refuses a section, such as a preset, that would undo single values of it that stand before it.

    Raises:
        ConfigError: there is one: cells would differ by more than the study says.
    """
    for number, key in enumerate(keys):
        undone = [before for before in keys[:number] if before.startswith(f"{key}.")]
        if undone:
            raise ConfigError(
                f"{name}: {key} replaces its whole section, and with it {undone[0]} that is set before it; write its "
                "values one by one, or set it before them"
            )


def _asked(study: Study, changes: Overrides, extra: Sequence[str], place: Place, name: str) -> Config:
    values: Overrides = {**study.overrides, **changes}
    return _load(study.params, [*as_overrides(values), *extra, f"seed={place.seed}"], f"exam {name}")


def hours(runs: Sequence[Cell], study: Study, jobs: int) -> float:
    """How long the training of cells takes at `steps_per_second` on each of `jobs` cores; equal cells count once."""
    steps = {cell.config.fingerprint(): cell.config.updates * cell.config.steps_per_update for cell in runs}
    return sum(steps.values()) / study.steps_per_second / jobs / 3600


def base_fingerprint(config: Config) -> str:
    """A 16-digit hash of every value that decides a base model."""
    environment = {"id", "frames", "history", "width", "height", "prompt", "prompt_template", "max_steps", "options"}
    asked = {"prompt", "history"} if config.warm_start.mixture else environment
    deciding = config.model_dump(
        mode="json",
        include={
            "seed": True,
            "model": {"base", "revision", "tiny", "family", "thinking", "system_message", "max_pixels"},
            "env": asked - config.env.absent,
            "warm_start": True,
            "rollout": {"temperature", "max_new_tokens"},
        },
        exclude={"warm_start": config.warm_start.absent},
    )
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def evaluation_fingerprint(config: Config) -> str:
    """A 16-digit hash of every value that decides what an evaluation plays, and how answers are sampled."""
    deciding = [
        config.seed,
        config.env.id,
        config.env.make_options,
        config.rollout.temperature,
        config.rollout.max_new_tokens,
        config.rollout.stop_at_answer,
        config.evaluate.episodes,
        config.model.dtype,
        *([config.env.history] if config.env.history else []),
    ]
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def benchmark_fingerprint(name: str, config: Config) -> str:
    """A 16-digit hash of every value that decides what a benchmark asks, and how answers are given."""
    read = config.model.model_dump(include={"dtype", "family", "thinking", "system_message", "max_pixels"})
    deciding = [name, config.benchmarks, config.env.prompt, read]
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def as_overrides(values: Mapping[str, JsonValue]) -> list[str]:
    """`key=value` with the value as YAML, as `load` takes it."""
    return [f"{key}={_yaml(value)}" for key, value in values.items()]


def _yaml(value: JsonValue) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _point_name(point: Overrides) -> str:
    return ", ".join(f"{key.rpartition('.')[2]}={_yaml(value)}" for key, value in point.items())


def _load(params: str, overrides: Sequence[str], name: str) -> Config:
    try:
        return load(params, overrides)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from None


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


def file_name(text: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
