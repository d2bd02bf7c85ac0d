"""Benchmarks a registered version, a directory or a model of a hub: `vldac benchmark`.

    vldac benchmark models:/NAME@champion --benchmark balrog --profile full --agent cot
    vldac benchmark models/policy --benchmark understanding
    vldac benchmark Qwen/Qwen2-VL-7B-Instruct --benchmark vsi_bench --data /data/VSI-Bench

The options of the benchmarks that are named may follow. Results of a registered version are kept with it; those of any
model are in .local/runs. A killed benchmark resumes: type the same command again, with another --batch-size if need be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from benchmarks.harness import command_line, registry, section
from benchmarks.harness.options import Options
from pipelines.core import extensions
from pipelines.core.errors import PipelineError
from pipelines.core.project import content_hash, home, read_json
from pipelines.stages import code, repro
from pipelines.stages.data_listing import published
from pipelines.tracking import benchmark_scores, fetched, lineage, runs
from pipelines.tracking.exports import CONTENT
from vldac import policy
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
        config: whose benchmark options hold; None takes their defaults.
        version: with which the results are kept, if it is registered.
        code: the parameters that name code of the user's own which the model needs: `extensions`, and its family.
    """

    name: str
    content: str
    paths: tuple[str, ...]
    config: Config | None = None
    version: ModelVersion | None = None
    code: Config = field(default_factory=Config)


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
        params: a params file whose benchmark options hold; None takes those of a registered version.

    Raises:
        PipelineError: the version cannot be found or fetched, or a policy's base is not known.
    """
    config = None if params is None else load(params)
    if config is not None:
        section.parse(config.benchmarks)  # wrong options stop here, before anything is fetched
    if registered(model):
        with runs.reachable(root):
            version = lineage.find(runs.client(root), model)
        with fetched.fetched(root, version) as directory:
            paths = ("--base", str(directory / "base"), "--policy", str(directory / "policy"))
            config = config or load(directory / "params.yaml")
            yield Subject(f"{version.name}-{version.version}", version.tags[CONTENT], paths, config, version, config)
    elif (Path(model) / policy.DESCRIPTION).is_file():
        base = base or base_of(root, Path(model))
        files = [Path(path) for path in (model, base) if Path(path).is_dir()]
        own = config or policy.recorded_config(Path(model), "extensions", "model")
        yield Subject(model, content_hash(*files), ("--base", base, "--policy", model), config, code=own)
    else:
        content = content_hash(Path(model)) if Path(model).is_dir() else ""
        yield Subject(model, content, ("--base", model), config, code=config or Config())


def base_of(root: Path, directory: Path) -> str:
    """The model that a trained policy stands on: the folder `base` beside it, or what its own record names.

    Raises:
        PipelineError: it was built where the policy was trained, and is not here; or the record is damaged.
    """
    try:
        named = str(read_json(directory / policy.DESCRIPTION)["config"]["model"]["base"])
    except (KeyError, TypeError):
        raise PipelineError(f"{directory / policy.DESCRIPTION} is damaged; fetch or train the policy again") from None
    beside = directory.parent / "base"
    if beside.is_dir():
        return str(beside)
    if named != "tiny":
        return named
    if (root / BASE).is_dir():  # of a policy of models/checkpoints, or of a run of this project
        return str(root / BASE)
    raise PipelineError(f"{directory} needs the base model that was built with it; name it: --base DIRECTORY")


def run_benchmark(
    root: Path,
    subject: Subject,
    benchmark: str,
    say: Callable[[str], None],
    *,
    changes: Mapping[str, Any] = MappingProxyType({}),
    loading: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Benchmarks a model; the result of a registered version is kept with it.

    Args:
        root: the project.
        subject: the model; see `opened`.
        benchmark: its name.
        say: takes every line that the benchmark prints.
        changes: options of the benchmark by name of field; they win over what the parameters give.
        loading: of `revision`, `dtype`, `threads`, `inputs` and `overwrite` of `python -m benchmarks`, what is given.

    Returns:
        What summary.json of the benchmark holds.

    Raises:
        StageError: the benchmark failed.
        PipelineError: an option is wrong, or the result cannot be kept with the version.
    """
    options = options_of(root, subject, benchmark, changes)
    if subject.config is not None:
        loading = {"dtype": subject.config.model.dtype, "threads": subject.config.deepspeed.threads, **loading}
    out = out_of(root, subject, benchmark, options, loading)
    command = [
        *(sys.executable, "-m", "benchmarks", "--benchmark", benchmark, *subject.paths),
        *("--options", options.model_dump_json(), "--out", str(out)),
    ]
    for name, value in loading.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    env = extensions.environment(root, subject.code, repro.environment())
    repro.follow(f"benchmark {benchmark}", command, say, cwd=root, env=env)
    summary = read_json(out / benchmark_scores.SUMMARY)
    if subject.version is not None:
        with runs.reachable(root):
            client = runs.client(root)
            version = client.get_model_version(subject.version.name, str(subject.version.version))
            benchmark_scores.record(client, version, summary, out)
    return summary


def options_of(root: Path, subject: Subject, benchmark: str, changes: Mapping[str, Any]) -> Options:
    """The options of a benchmark: what the subject's parameters give, or the defaults, with changes.

    Raises:
        PipelineError: an option is wrong, or there is no such benchmark.
    """

    def refuse(line: str) -> None:
        raise PipelineError(f"{benchmark}: {line}")

    given: dict[str, Any] = {}
    if subject.config is not None:
        own = section.parse(subject.config.benchmarks)
        data = None if "data" in changes else published(root, subject.config, benchmark)
        given = own.options(benchmark, style=subject.config.env.prompt, data=data).model_dump()
    model = entry_of(benchmark).options
    return command_line.validated(model, {**given, **changes}, refuse)


def entry_of(benchmark: str) -> registry.Entry:
    """The entry of a benchmark.

    Raises:
        PipelineError: there is none.
    """
    try:
        return registry.get(benchmark)
    except registry.UnknownBenchmarkError as error:
        raise PipelineError(str(error)) from error


def out_of(
    root: Path, subject: Subject, benchmark: str, options: Options, loading: Mapping[str, Any] = MappingProxyType({})
) -> Path:
    """Where the records are of a benchmark of these files by these options and this code; others are elsewhere."""
    entry = entry_of(benchmark)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", subject.name).strip("-.")
    deciding = {key: value for key, value in loading.items() if key not in _WITHOUT_EFFECT}
    parts = [subject.name, subject.content, options.deciding(), deciding, _code(root, subject.code, entry)]
    told_apart = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
    return home(root) / "runs" / name / f"{entry.name}-{told_apart}"


#: Of how a model is loaded: what decides how fast a benchmark is, and not its answers.
_WITHOUT_EFFECT = frozenset({"threads", "overwrite"})


def _code(root: Path, config: Config, entry: registry.Entry) -> str:
    """Hash of the code of a benchmark: what an older one has scored is not the answer of this one."""
    tree = code.source_tree(root, config)
    files = tree.manifest(code.benchmark_closure(tree, config, entry.name))["files"]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def run_benchmarks(
    model: str, benchmarks: Sequence[str], options: Sequence[str] = (), *, base: str | None, params: Path | None
) -> int:
    """Benchmarks a model, one benchmark after the other; one that fails does not hide the others.

    Args:
        model: models:/NAME@champion, NAME/3, a directory, or a hub id.
        benchmarks: their names.
        options: of the benchmarks that are named and of how the model is loaded, as on the command line of
            `python -m benchmarks`.
        base: of a policy's directory; None: `base` beside it, or what it names.
        params: a params file whose section `benchmarks` holds; None takes that of a registered version, or the
            defaults.

    Returns:
        The exit status.

    Raises:
        PipelineError: a name is unknown, or benchmarks failed, each of which has been said.
    """
    entries = [entry_of(name) for name in benchmarks]
    parser = argparse.ArgumentParser(prog="vldac benchmark MODEL", allow_abbrev=False)
    parser.add_argument("--overwrite", action="store_true", default=None, help="remove other records first")
    parser.add_argument("--inputs", metavar="DIGEST", help="of what else decides the records")
    command_line.add_loading(parser)
    command_line.add_options(
        parser.add_argument_group("options of the benchmarks"), [entry.options for entry in entries]
    )
    parsed = parser.parse_args(list(options))
    loading = {name: getattr(parsed, name) for name in ("revision", "dtype", "threads", "inputs", "overwrite")}
    loading = {name: value for name, value in loading.items() if value is not None}
    root, failed = Path.cwd(), []
    with opened(root, model, base=base, params=params) as subject:
        for benchmark, entry in zip(benchmarks, entries, strict=True):
            changes = command_line.given(parsed, entry.options)
            try:
                run_benchmark(root, subject, benchmark, _print, changes=changes, loading=loading)
            except PipelineError as error:
                print(f"error: {error}", file=sys.stderr)
                failed.append(benchmark)
    if failed:
        raise PipelineError(f"not benchmarked: {', '.join(failed)}")
    return 0


def _print(line: str) -> None:
    print(line, flush=True)
