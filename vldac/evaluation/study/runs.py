"""Where the cells of a study are run, and what is told of them to what lies around the study."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import envs
import vldac
from vldac.config import Config
from vldac.evaluation.study.config import Study
from vldac.evaluation.study.fingerprints import base_fingerprint, benchmark_fingerprint, evaluation_fingerprint
from vldac.evaluation.study.matrix import Cell, file_name
from vldac.utils.errors import UserError
from vldac.utils.files import content_hash


class Surroundings:
    """What a study takes from around it, and tells it. By itself, a study is tracked nowhere."""

    def code(self, config: Config) -> str:
        """Names the code that decides the results of `config`; here all of vldac and envs."""
        return self._everything

    def benchmark_code(self, name: str, config: Config) -> str:
        """Names the code that decides the records of a benchmark, given the model; here all of three packages.

        Raises:
            UserError: there is no such benchmark.
        """
        found = importlib.util.find_spec("benchmarks")
        if found is None or found.origin is None:
            raise UserError(f"benchmark {name}: the package benchmarks is not installed beside vldac; install both")
        return _key(self._everything, content_hash(Path(found.origin).parent))

    @cached_property
    def _everything(self) -> str:
        return content_hash(*(Path(str(package.__file__)).parent for package in (vldac, envs)))

    def environment(self, config: Config) -> dict[str, str]:
        """The environment of a child process that works for `config`."""
        return dict(os.environ)

    def about(self) -> dict[str, str]:
        """More versions for a line of results, such as a git revision."""
        return {}

    def begin(self, study: Study, run: Run) -> None:
        """The training of a cell begins, or continues."""

    def end(self, run: Run, result: Mapping[str, Any] | None) -> None:
        """A cell has ended, with its line of results unless it failed or was interrupted."""

    def keep(self, study: Study, run: Run, result: Mapping[str, Any]) -> None:
        """A cell had finished before this study began."""

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """The study has ended: all cells are there, some failed, or it was interrupted."""

    def reported(self, study: Study, placed: Sequence[Run], page: Path) -> None:
        """The tables of a finished study have been written, with figures beside them."""


@dataclass(frozen=True)
class Asked:
    """A benchmark of a cell.

    Attributes:
        name: of the benchmark.
        config: that has its options.
        key: names all that decides its records besides the model.
    """

    name: str
    config: Config
    key: str

    def records(self, home: Path) -> Path:
        """The directory of the records of a model whose files are in `home`; that of all its benchmarks is above it."""
        return home / "benchmarks" / self.key / file_name(self.name)

    def summary(self, home: Path) -> Path:
        """The scores, written last."""
        return self.records(home) / "summary.json"


@dataclass(frozen=True)
class Run:
    """A cell and where it is run.

    Attributes:
        cell: of the study.
        base: directory of the base model's files.
        home: directory of the cell's own.
        exams: of each exam, its configuration and a name for all that decides its scores besides the policy.
        threshold: of the study.
        benchmarks: by label.
    """

    cell: Cell
    base: Path
    home: Path
    exams: Mapping[str, tuple[Config, str]] = field(default_factory=dict)
    threshold: float = 0.9
    benchmarks: Mapping[str, Asked] = field(default_factory=dict)

    @property
    def summary(self) -> Path:
        """What the trained policy scores in its own environment."""
        return self.home / f"summary-{self.cell.config.evaluate.episodes}.json"

    @property
    def base_summary(self) -> Path:
        """What the base model and a random policy score in the environment of the cell."""
        return self.base / f"summary-{evaluation_fingerprint(self.cell.base_config)}.json"

    def exam(self, name: str) -> Path:
        """What the trained policy scores in an exam."""
        return self.home / "exams" / f"{self.exams[name][1]}.json"

    def base_exam(self, name: str) -> Path:
        """What the base model and a random policy score in an exam."""
        return self.base / f"exam-{self.exams[name][1]}.json"

    def comparison(self, label: str) -> Path:
        """A benchmark of the trained policy beside that of its base model, as `vldac report` writes it."""
        return self.home / "comparisons" / self.benchmarks[label].key / "report.json"

    @property
    def base_is_measured(self) -> bool:
        """Whether the base model has been evaluated wherever the policy will be."""
        summaries = [*self.base_evaluations, *(asked.summary(self.base) for asked in self.benchmarks.values())]
        return all(path.exists() for path in summaries)

    @property
    def evaluations(self) -> dict[Path, Config]:
        """Of the trained policy, by file."""
        return {self.summary: self.cell.config, **{self.exam(name): asked for name, (asked, _) in self.exams.items()}}

    @property
    def base_evaluations(self) -> dict[Path, Config]:
        """Of the base model and a random policy, by file; with the seed of the base, whatever that of the cell."""
        seed = {"seed": self.cell.base_config.seed}
        exams = {self.base_exam(name): asked.model_copy(update=seed) for name, (asked, _) in self.exams.items()}
        return {self.base_summary: self.cell.base_config, **exams}

    @property
    def key(self) -> str:
        """Names all that decides the line of results besides `home`."""
        exams = [f"{name}={key}" for name, (_, key) in self.exams.items()]
        exams += [f"{label}={asked.key}" for label, asked in self.benchmarks.items()]
        return _key(str(self.cell.config.evaluate.episodes), str(self.threshold), *exams)

    @property
    def result(self) -> Path:
        """The line of results, written last."""
        return self.home / f"result-{self.key}.json"

    @property
    def metrics(self) -> Path:
        """One JSON object an update, written by training."""
        return self.home / "run/metrics.jsonl"


def place(cells: Iterable[Cell], directory: Path, surroundings: Surroundings, *, threshold: float = 0.9) -> list[Run]:
    """Where each cell of a study is run; equal cells share a directory."""
    runs = []
    for cell in cells:
        code = surroundings.code(cell.config)
        base = _key(base_fingerprint(cell.base_config), code)
        own = cell.config.fingerprint(base, code)
        seed = {"seed": cell.base_config.seed}  # that of the cell is in the name of its directory
        exams = {
            name: (asked, _key(evaluation_fingerprint(asked.model_copy(update=seed)), surroundings.code(asked)))
            for name, asked in cell.exams.items()
        }
        benchmarks = {
            label: Asked(
                name,
                asked,
                _key(benchmark_fingerprint(name, asked), surroundings.benchmark_code(name, asked)),
            )
            for label, (name, asked) in cell.benchmarks.items()
        }
        home = directory / "cells" / own
        runs.append(Run(cell, directory / "bases" / base, home, exams, threshold, benchmarks))
    return runs


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """A context in which no other study works in `directory`.

    Raises:
        UserError: another one does.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another study works in {directory}; wait for it, or choose another --directory") from None
        yield
