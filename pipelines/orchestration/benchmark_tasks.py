"""Benchmarks in a flow: each on its own, so that one that fails stops neither the others nor later steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task

from pipelines.core.errors import PipelineError
from pipelines.evaluation import benchmarks
from pipelines.stages import data_listing
from pipelines.stages.repro import resumable
from pipelines.tracking import benchmark_scores
from vldac.config import Config


def run_stages(stage: Callable[..., bool], root: Path, config: Config, *, force: bool) -> dict[str, str]:
    """Runs the stages of the benchmarks and of their report.

    Args:
        stage: runs one, such as `flows.stage`.
        root: the project.
        config: of the run.
        force: run them even if they are up to date.

    Returns:
        By stage, why it failed.
    """
    failed: dict[str, str] = {}
    with _collect_failure(failed, "benchmark-data"):
        stage("benchmark-data", force=data_listing.changed(root, config))
    if failed:
        return failed  # without data there is nothing to benchmark on
    for number, name in enumerate(benchmark_scores.STAGES, start=1):
        get_run_logger().info("benchmark %d of %d: %s", number, len(benchmark_scores.STAGES), name)
        with _collect_failure(failed, f"benchmark@{name}"):
            stage(f"benchmark@{name}", force=force)
    if len(failed) < len(benchmark_scores.STAGES):
        with _collect_failure(failed, "report"):
            stage("report", force=force)
    return failed


def finished(root: Path, failed: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """By model, the summaries of the benchmarks of the pipeline that did not fail; see `run_stages`."""
    names = [name for name in benchmark_scores.STAGES if not {"benchmark-data", f"benchmark@{name}"} & set(failed)]
    found = {model: benchmark_scores.summaries(root / home) for model, home in benchmark_scores.HOMES.items()}
    return {model: [results[name] for name in names if name in results] for model, results in found.items()}


def run_each(
    root: Path, version: str, options: Mapping[str, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Runs benchmarks of a registered version, whose files are fetched once.

    Args:
        root: the project.
        version: `NAME/3`.
        options: of each benchmark, by its name; what is not given is the version's own.

    Returns:
        The summaries of those that succeeded, and by benchmark why the others failed.
    """
    results: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    with benchmarks.opened(root, version) as subject:
        for name, changes in options.items():
            with _collect_failure(failed, name):
                results.append(run_benchmark(subject, name, changes))
    return results, failed


@task(task_run_name="{benchmark} of {subject.name}", retries=1, retry_condition_fn=resumable, persist_result=False)
def run_benchmark(subject: benchmarks.Subject, benchmark: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """See `benchmarks.run_benchmark`. A second attempt resumes from the records of the first."""
    log = get_run_logger()
    return benchmarks.run_benchmark(Path.cwd(), subject, benchmark, lambda line: log.info("%s", line), changes=changes)


def failure_of(failed: Mapping[str, str]) -> PipelineError:
    """What a flow ends with when some of its benchmarks failed."""
    return PipelineError("failed: " + ", ".join(f"{name} ({error})" for name, error in failed.items()))


@contextmanager
def _collect_failure(failed: dict[str, str], name: str) -> Iterator[None]:
    """A context that adds an expected failure to `failed`, by that name, and lets what follows run."""
    try:
        yield
    except PipelineError as error:
        get_run_logger().warning("%s: %s", name, error)
        failed[name] = str(error)
