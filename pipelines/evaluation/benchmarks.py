"""Benchmarks a registered version, a directory or a model of a hub: `vldac benchmark`.

    vldac benchmark models:/NAME@champion --benchmark balrog --profile full --agent cot
    vldac benchmark models/policy --benchmark understanding
    vldac benchmark Qwen/Qwen2-VL-7B-Instruct --benchmark vsi_bench --data /data/VSI-Bench

Whatever `python -m benchmarks` takes may follow. Results of a registered version are kept with it; those of any model
lie in .local/runs. A killed benchmark resumes: type the same command again, with another --batch-size or --threads if
need be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core import extensions, processes
from pipelines.core.errors import PipelineError
from pipelines.core.project import content_hash, home, read_json
from pipelines.stages import code, repro
from pipelines.stages.benchmark import data_flags, flags
from pipelines.tracking import benchmark_scores, fetched, lineage, runs
from pipelines.tracking.exports import CONTENT
from vldac.config import Config, load

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

BASE = "models/base"


@dataclass(frozen=True)
class Subject:
    """A model that is benchmarked.

    Attributes:
        name: of the directory of its records.
        content: tells its files from others that had the same name.
        paths: the options of `python -m benchmarks` that name it.
        config: whose section `benchmarks` holds; None takes the defaults of the command.
        version: with which the results are kept, if it is registered.
    """

    name: str
    content: str
    paths: tuple[str, ...]
    config: Config | None = None
    version: ModelVersion | None = None


def registered(text: str) -> bool:
    """Whether a text names a registered version, and not a directory or a model of a hub."""
    return not Path(text).is_dir() and (text.startswith(("models:/", "vldac-")) or "@" in text)


@contextmanager
def opened(root: Path, model: str, *, base: str | None = None, params: Path | None = None) -> Iterator[Subject]:
    """A model, ready for any number of benchmarks; files of a registered version are there as long as this lasts.

    Args:
        root: the project.
        model: `models:/NAME@champion` or `NAME/3`, a directory of a model or of a trained policy, or a hub id.
        base: of a policy's directory; None finds it, see `base_of`.
        params: a params file whose section `benchmarks` holds; None takes that of a registered version.

    Raises:
        PipelineError: the version cannot be found or fetched, or a policy's base is not known.
    """
    config = None if params is None else load(params)
    if registered(model):
        with runs.reachable(root):
            version = lineage.find(runs.client(root), model)
        with fetched.fetched(root, version) as directory:
            paths = ("--base", str(directory / "base"), "--policy", str(directory / "policy"))
            config = config or load(directory / "params.yaml")
            yield Subject(f"{version.name}-{version.version}", version.tags[CONTENT], paths, config, version)
    elif (Path(model) / "vldac.json").is_file():
        base = base or base_of(root, Path(model))
        files = [Path(path) for path in (model, base) if Path(path).is_dir()]
        yield Subject(model, content_hash(*files), ("--base", base, "--policy", model), config)
    else:
        yield Subject(model, content_hash(Path(model)) if Path(model).is_dir() else "", ("--base", model), config)


def base_of(root: Path, policy: Path) -> str:
    """The model that a trained policy stands on: the folder `base` beside it, or what its own record names.

    Raises:
        PipelineError: it was built where the policy was trained, and is not here.
    """
    named = str(read_json(policy / "vldac.json")["config"]["model"]["base"])
    beside = policy.parent / "base"
    if beside.is_dir():
        return str(beside)
    if named != "tiny":
        return named
    if (root / BASE).is_dir():  # of a policy of models/checkpoints, or of a run of this project
        return str(root / BASE)
    raise PipelineError(f"{policy} needs the base model that was built with it; name it: --base DIRECTORY")


def run_benchmark(
    root: Path, subject: Subject, benchmark: str, options: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Benchmarks a model; the result of a registered version is kept with it.

    Args:
        root: the project.
        subject: the model; see `opened`.
        benchmark: its name.
        options: of `python -m benchmarks`; they win over what the parameters give.
        say: takes every line that the benchmark prints.

    Returns:
        What summary.json of the benchmark holds.

    Raises:
        StageError: the benchmark failed.
        PipelineError: its result cannot be kept with the version.
    """
    if subject.config is not None:
        named = any(option.partition("=")[0] == "--data" for option in options)
        data = [] if named else data_flags(root, subject.config, benchmark)
        options = [*flags(subject.config, benchmark), *data, *options]
    out = out_of(root, subject, benchmark, options)
    command = [
        *(sys.executable, "-m", "benchmarks", "--benchmark", benchmark),
        *(*subject.paths, *options, "--out", str(out)),
    ]
    lines: list[str] = []

    def on_line(line: str) -> None:
        if line:
            lines.append(line)
            say(line)

    env = repro.environment()
    if subject.config is not None:
        env = extensions.environment(root, subject.config, env)
    if exit_code := processes.stream(command, on_line, cwd=root, env=env):
        raise repro.failure(f"benchmark {benchmark}", exit_code, lines)
    summary = read_json(out / benchmark_scores.SUMMARY)
    if subject.version is not None:
        with runs.reachable(root):
            client = runs.client(root)
            version = client.get_model_version(subject.version.name, str(subject.version.version))
            benchmark_scores.record(client, version, summary, out)
    return summary


def out_of(root: Path, subject: Subject, benchmark: str, options: Sequence[str]) -> Path:
    """Where the records are of a benchmark of these files by these options and this code; others are elsewhere."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", subject.name).strip("-.")
    _, deciding = _WITHOUT_EFFECT.parse_known_args(options)
    parts = [subject.name, subject.content, *deciding, _code(root, subject.config, benchmark)]
    told_apart = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
    return home(root) / "runs" / name / f"{benchmark}-{told_apart}"


def _without_effect() -> argparse.ArgumentParser:
    """Takes the options that decide how fast a benchmark is, and not its answers."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--batch-size", "--threads", "--tokens-at-once"):
        parser.add_argument(name)
    parser.add_argument("--overwrite", action="store_true")
    return parser


_WITHOUT_EFFECT = _without_effect()


def _code(root: Path, config: Config | None, benchmark: str) -> str:
    """Hash of the code of a benchmark: what an older one has scored is not the answer of this one."""
    config = config or Config()
    tree = code.source_tree(root, config)
    files = tree.manifest(code.benchmark_closure(tree, config, benchmark))["files"]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def run_benchmarks(
    model: str, benchmarks: Sequence[str], options: Sequence[str] = (), *, base: str | None, params: Path | None
) -> int:
    """Benchmarks a model, one benchmark after the other; one that fails does not hide the others.

    Args:
        model: models:/NAME@champion, NAME/3, a directory, or a hub id.
        benchmarks: their names.
        options: of `python -m benchmarks`.
        base: of a policy's directory; None: `base` beside it, or what it names.
        params: params file that decides how; None: that of a registered version, or the defaults.

    Returns:
        The exit status.

    Raises:
        PipelineError: a name is unknown, or benchmarks failed, each of which has been said.
    """
    if unknown := sorted(set(benchmarks) - set(benchmark_scores.NAMES)):
        raise PipelineError(f"unknown benchmark {unknown[0]!r}; choose from {', '.join(benchmark_scores.NAMES)}")
    root, failed = Path.cwd(), []
    with opened(root, model, base=base, params=params) as subject:
        for benchmark in benchmarks:
            try:
                run_benchmark(root, subject, benchmark, options, lambda line: print(line, flush=True))
            except PipelineError as error:
                print(f"error: {error}", file=sys.stderr)
                failed.append(benchmark)
    if failed:
        raise PipelineError(f"not benchmarked: {', '.join(failed)}")
    return 0
