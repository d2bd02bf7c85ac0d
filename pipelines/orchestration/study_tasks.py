"""A study in a flow: one task, whose process works on several cells at a time; another attempt resumes it."""

from __future__ import annotations

import sys
from pathlib import Path

from prefect import get_run_logger, task

from pipelines.orchestration import artifacts
from pipelines.stages import repro
from vldac.evaluation.study.__main__ import RESULTS
from vldac.evaluation.study.config import find, read


@task(task_run_name="study {profile}", retries=1, retry_condition_fn=repro.resumable, persist_result=False)
def run_study(profile: str, model: str, jobs: int) -> Path:
    """Runs a study to its end; returns the folder of its results.

    Args:
        profile: smoke, laptop, laptop-ablations, full, transfer, or a YAML file of the project.
        model: to start from instead; empty: the profile's.
        jobs: cells at a time; 0: as many as the cores serve.
    """
    log, results = get_run_logger(), RESULTS / read(find(profile)).name
    command = [sys.executable, "-m", "pipelines.evaluation.studies", profile]
    command += ["--model", model] if model else []
    command += ["--jobs", str(jobs)] if jobs else []
    repro.follow("study", command, lambda line: log.info("%s", line), cwd=Path.cwd(), env=repro.environment())
    return results


def show(results: Path) -> None:
    """Posts the report and its figures to the page of the flow run."""
    artifacts.markdown("study", (results / "report.md").read_text(encoding="utf-8"), str(results))
    for picture in sorted(results.glob("*.png")):
        artifacts.picture(picture, f"study-{picture.stem}")
