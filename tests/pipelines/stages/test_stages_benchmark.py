"""The benchmarks of `make run` and of plain DVC: made again when something has changed, resumed when killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pipelines.tracking import benchmark_scores, registry, runs
from tests.pipelines.conftest import call, dvc
from vldac.config import load

pytestmark = pytest.mark.slow

RUN = (sys.executable, "-m", "vldac", "run")
EVALUATE = """
import os, sys
from pathlib import Path
from pipelines.commands import run
from pipelines.core import errors
os.environ.update(run.environment(Path.cwd()))
from pipelines.orchestration import flows
sys.exit(errors.run(lambda: flows.evaluate_model(benchmarks=["balrog", "erqa"]) and 0))
"""


def score() -> float:
    return round(json.loads(Path("scores/trained/balrog/summary.json").read_text())["score"], 6)


@pytest.mark.usefixtures("finished_project")
def test_a_benchmark_is_made_again_when_forced_or_changed_and_resumes_when_killed() -> None:
    def benchmark(understanding: int, *options: str, code: int = 0) -> str:
        Path("understanding").write_text(str(understanding))
        return dvc("repro", *options, "benchmark@balrog", code=code)

    assert score() == 51
    assert "didn't change" in benchmark(52)

    printed = benchmark(53, "--single-item", "--force")
    assert "base resumes from 0" in printed
    assert score() == 53

    with Path("benchmarks/suites/balrog/benchmark.py").open("a") as code:
        code.write("# other rules\n")
    printed = benchmark(54)
    assert "base resumes from 0" in printed
    assert score() == 54

    # Killed at its first question: what is there is kept, and no summary says that it is finished.
    Path("die_in").write_text("balrog")
    benchmark(55, "--single-item", "--force", code=255)
    assert not Path("scores/trained/balrog/summary.json").exists()
    printed = benchmark(56)
    assert "base resumes from 2" in printed
    assert "trained resumes from 1" in printed
    assert score() == 55

    # Another policy on the same base: the base has answered.
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("gamma: 0.95", "gamma: 0.9"))
    printed = benchmark(57)
    assert "base resumes from 2" in printed
    assert "trained resumes from 0" in printed
    assert score() == 57


@pytest.mark.usefixtures("shared_server")
def test_a_benchmark_that_fails_costs_neither_the_others_nor_the_promotion(project: Path) -> None:
    Path("failing").write_text("vsi_bench")
    printed = call(*RUN, code=1)
    assert (
        printed.rstrip().splitlines()[-1]
        == "error: failed: benchmark@vsi_bench (the benchmark's data is missing; fetch it)"
    )
    assert "trained model" in printed
    assert set(json.loads(Path("metrics/benchmarks.json").read_text())) == set(benchmark_scores.STAGES) - {"vsi_bench"}
    client = runs.client(project)
    name = registry.model_name(project, load("params.yaml"))
    version = client.get_model_version_by_alias(name, registry.CHAMPION)
    assert benchmark_scores.recorded(version.tags, "balrog") is not None
    assert benchmark_scores.recorded(version.tags, "vsi_bench") is None

    # What has failed is made up for, and new maps are noticed by the benchmark that shows them.
    Path("failing").unlink()
    Path("maps").mkdir()
    printed = call(*RUN, "--steps", "benchmark", "promote", env={"BOXOBAN_MAPS": "maps"})
    assert "benchmark@understanding: up to date" in printed
    assert "balrog: trained resumes from 0" in printed
    assert "vsi_bench: trained resumes from 0" in printed

    Path("failing").write_text("balrog")
    printed = call(sys.executable, "-c", EVALUATE, code=1)
    assert "error: failed: balrog (the benchmark's data is missing; fetch it)" in printed
    version = client.get_model_version_by_alias(name, registry.CHAMPION)
    assert benchmark_scores.recorded(version.tags, "erqa") is not None

    # A wrong folder of data is said once, and what was trained is still promoted.
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("  data: null", "  data: nowhere"))
    printed = call(*RUN, "--steps", "benchmark", "promote", code=1)
    assert "error: failed: benchmark-data (benchmarks.data: " in printed.rstrip().splitlines()[-1]
    assert "balrog: trained" not in printed
