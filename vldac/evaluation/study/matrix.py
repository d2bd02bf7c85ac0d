"""The cells that follow from a study: a run for each algorithm, environment, seed and change, configured."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

import yaml
from pydantic import JsonValue

from vldac.config import Config, ConfigError, load
from vldac.evaluation.study.config import Overrides, Study
from vldac.utils.errors import UserError

Kind = Literal["main", "ablation", "grid"]


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

    @property
    def line(self) -> str:
        """As `--dry-run` prints it."""
        return f"{self.kind:8} {self}: {self.config.train.total_steps} steps"


def chosen(every: Sequence[Cell], texts: Sequence[str]) -> list[Cell]:
    """The cells of a study whose line in `--dry-run` has one of these texts in it, in whatever case.

    Raises:
        UserError: no cell has one of them.
    """
    for text in texts:
        if not any(text.casefold() in cell.line.casefold() for cell in every):
            raise UserError(f"--only {text!r}: no cell has it in its line; --dry-run prints them all")
    return [cell for cell in every if any(text.casefold() in cell.line.casefold() for text in texts)]


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


def file_name(text: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
