"""A study in a project whose models are fakes and whose MLflow is real."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.evaluation import studies
from pipelines.stages import code
from pipelines.tracking import runs
from tests.pipelines.conftest import REPOSITORY, call, dvc
from vldac.config import load
from vldac.evaluation.study import config, matrix, records
from vldac.evaluation.study import runs as study_runs
from vldac.utils.errors import UserError

STUDY = (sys.executable, "-m", "pipelines.evaluation.studies", "mine.yaml")
PROFILE = """
environments: [{name: Line}]
algorithms: [vldac, {name: vldac, label: raw, options: {normalize_advantages: false}}]
seeds: [0]
ablations: [{name: no KL, overrides: {train.kl_coefficient: 0.0}}]
"""


@pytest.fixture
def profile(project: Path) -> Path:
    """A project with a study of three cells."""
    (project / "mine.yaml").write_text(PROFILE)
    return project


def lines(root: Path) -> list[dict[str, Any]]:
    return records.read_lines(root / "results/study/mine/cells.jsonl")


def found(root: Path) -> dict[str, Any]:
    """MLflow's runs by name."""
    client = runs.client(root)
    experiment = client.get_experiment_by_name(runs.EXPERIMENT)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_each_cell_is_a_run_below_the_one_of_the_study(profile: Path) -> None:
    printed = call(*STUDY, "--jobs", "2")
    assert printed.count("trained in") == 3
    assert [(line["algorithm"], line["kind"], line["variant"]) for line in lines(profile)] == [
        ("vldac", "main", ""),
        ("raw", "main", ""),
        ("vldac", "ablation", "no KL"),
    ]
    by_name = found(profile)
    parent = by_name.pop("study mine")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in by_name.values()} == {parent.info.run_id}
    ablated = by_name["Line, vldac, no KL, seed 0"]
    tags = {"study": "mine", "algorithm": "vldac", "environment": "Line", "seed": "0", "ablation": "no KL"}
    assert tags.items() <= ablated.data.tags.items()
    assert ablated.data.metrics["environment_steps"] == 320
    assert ablated.data.metrics["evaluation/success"] == 0.97
    assert {run.info.status for run in by_name.values()} == {"FINISHED"}
    assert (profile / "results/study/mine/report.md").exists()
    attached = {artifact.path for artifact in runs.client(profile).list_artifacts(parent.info.run_id, "report")}
    assert attached >= {"report/report.md", "report/cells.csv", "report/success.png", "report/curves.png"}


def test_a_killed_study_resumes_and_runs_nothing_twice(profile: Path) -> None:
    slow = {**os.environ, "FAKE_UPDATE_SECONDS": "0.3"}
    first = subprocess.Popen([*STUDY, "--jobs", "1"], env=slow, stdout=subprocess.DEVNULL, start_new_session=True)
    made = profile / "runs/study/cells"
    results = profile / "results/study/mine/cells.jsonl"
    while not results.exists() or not list(made.glob("*/run/checkpoints/update.json")):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert len(lines(profile)) == 1
    printed = call(*STUDY, "--jobs", "1")
    assert "3 cells, 1 finished before" in printed
    assert printed.count("trained in") == 2
    logs = sorted(path.read_text() for path in made.glob("*/vldac.train.log"))
    starts = sorted(log.count("starting at update") for log in logs)
    assert starts == [1, 1, 2]
    resumed = next(log for log in logs if log.count("starting at update") == 2)
    assert "starting at update 0" not in resumed.split("starting at update", 2)[2]
    (line,) = [line for line in lines(profile) if line["attempts"] == 2]
    assert line["cpu_seconds"] is None
    assert len(found(profile)) == 4
    again = call(*STUDY)
    assert "3 finished before" in again
    assert "trained in" not in again


def test_a_cell_that_fails_does_not_stop_the_others_and_is_run_again(profile: Path) -> None:
    (profile / "die_at").write_text("3")
    printed = call(*STUDY, "--jobs", "1", code=1)
    assert "error: Line, vldac, seed 0: exit code -9; see" in printed
    assert "error: 1 failed; the same command runs them again" in printed
    assert len(lines(profile)) == 2
    assert found(profile)["Line, vldac, seed 0"].info.status == "FAILED"
    call(*STUDY, "--jobs", "1")
    assert len(lines(profile)) == 3
    assert found(profile)["Line, vldac, seed 0"].info.status == "FINISHED"


def test_a_study_goes_on_without_mlflow(profile: Path) -> None:
    printed = call(*STUDY, env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert "Training continues" in printed
    assert len(lines(profile)) == 3


def test_an_edit_concerns_the_cells_whose_code_it_is(profile: Path) -> None:
    study = config.read(profile / "mine.yaml")
    (run, *_) = study_runs.place(matrix.cells(study), Path("runs"), studies.Tracked(profile))
    for module, same in (("vldac/evaluation/study/report.py", True), ("vldac/train.py", False)):
        with (profile / module).open("a") as file:
            file.write("\n# edited\n")
        (after, *_) = study_runs.place([run.cell], Path("runs"), studies.Tracked(profile))
        assert (after.home == run.home) is same


def test_an_edit_of_a_benchmark_concerns_that_benchmark(profile: Path) -> None:
    def names() -> list[str]:
        surroundings = studies.Tracked(profile)
        return [surroundings.benchmark_code(name, load("params.yaml")) for name in ("vsi_bench", "understanding")]

    before = names()
    with (profile / "benchmarks/suites/vsi_bench/benchmark.py").open("a") as file:
        file.write("\n# edited\n")
    after = names()
    assert [one == two for one, two in zip(before, after, strict=True)] == [False, True]
    with pytest.raises(UserError, match="vsi_bench"):
        studies.Tracked(profile).benchmark_code("vsi_bensh", load("params.yaml"))
    alone = study_runs.Surroundings()
    assert alone.benchmark_code("vsi_bench", load("params.yaml")) != alone.code(load("params.yaml"))


def test_what_carries_over_is_metrics_of_the_run() -> None:
    score = {"trained": {"success": 0.9}, "base": {"success": 0.25}}
    benchmark = {"trained": {"score": 40.0}, "difference": {"mean": -2.0}}
    found = studies.carried({"exams": {"A room": score}, "benchmarks": {"Videos": benchmark}})
    assert found == pytest.approx(
        {"exam/A-room/score": 0.9, "exam/A-room/gain": 0.65, "exam/Videos/score": 0.4, "exam/Videos/gain": -0.02}
    )
    assert studies.carried({}) == {}


def test_code_without_the_pipeline_counts_as_a_whole(profile: Path) -> None:
    surroundings = study_runs.Surroundings()
    assert surroundings.code(load("params.yaml")) == study_runs.Surroundings().code(load("params.yaml"))
    assert surroundings.code(load("params.yaml")) != code.policy_digest(profile, load("params.yaml"))


def test_a_study_is_a_stage_of_dvc_by_the_command_of_the_docs(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (REPOSITORY / "docs/study.md").read_text()
    command = page[page.index("dvc stage add") :].partition("\n\n")[0].replace("\\\n", " ")
    assert shlex.split(command)[:2] == ["dvc", "stage"]
    (profile / "conf/study/smoke.yaml").write_text(PROFILE)
    (profile / "results/study").mkdir(parents=True)
    monkeypatch.chdir(profile / "results/study")
    dvc(*shlex.split(command)[1:])
    monkeypatch.chdir(profile)
    assert len(records.read_lines(profile / "results/study/smoke/cells.jsonl")) == 3
    assert "didn't change" in dvc("repro", "results/study/dvc.yaml:smoke")
    dvc("checkout", "results/study/dvc.yaml:smoke")


def test_one_study_at_a_time(profile: Path) -> None:
    with study_runs.alone(profile / "runs/study"):
        assert "another study works in" in call(*STUDY, code=1)
