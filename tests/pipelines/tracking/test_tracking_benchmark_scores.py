"""Benchmarks of registered versions: where their results are kept, what promotion makes of them, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipelines.commands import models
from pipelines.tracking import benchmark_scores, exports, registry, runs
from tests.pipelines.conftest import call, dvc
from vldac.config import load

BENCHMARK = (sys.executable, "-m", "vldac", "benchmark")
MODELS = (sys.executable, "-m", "vldac", "models")
SUMMARY: dict[str, Any] = {
    "benchmark": "balrog",
    "title": "BALROG",
    "synthetic": False,
    "score": 12.5,
    "standard_error": 1.5,
    "count": 255,
    "tasks": {"BabyAI/goto (1)": {"score": 25.0, "standard_error": 3.0, "count": 50}},
    "identity": {"profile": "full", "seed": 0},
}


def test_scores_of_a_benchmark_and_its_tasks_have_names_that_mlflow_takes() -> None:
    assert list(benchmark_scores.scores(SUMMARY)) == [("balrog", 12.5), ("balrog/BabyAI-goto -1-", 25.0)]


def test_a_digest_tells_benchmarks_apart_and_not_models() -> None:
    assert benchmark_scores.digest(SUMMARY) == benchmark_scores.digest({**SUMMARY, "score": 99.0})
    assert benchmark_scores.digest(SUMMARY) != benchmark_scores.digest(
        {**SUMMARY, "identity": {"profile": "short", "seed": 0}}
    )


class Client:
    """As much of MLflow's client as keeping a benchmark uses."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {exports.CONTENT: "c"}
        self.metrics: list[tuple[str, float]] = []
        self.artifacts: list[str] = []

    def set_model_version_tag(self, _name: str, _number: str, key: str, value: str) -> None:
        self.tags[key] = value

    def log_metric(self, _run: str, key: str, value: float, **_: object) -> None:
        self.metrics.append((key, value))

    def log_artifact(self, _run: str, path: str, where: str) -> None:
        self.artifacts.append(f"{where}/{Path(path).name}")

    def record(self, summary: dict[str, Any], policy: str = "trained") -> bool:
        version: Any = SimpleNamespace(tags=dict(self.tags), run_id="r", version=1, name="n")
        return benchmark_scores.record(cast("Any", self), version, summary, Path("benchmark"), policy=policy)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(benchmark_scores, "log_input", lambda *_: None)
    monkeypatch.setattr(exports, "find", lambda *_: None)
    return Client()


def result(score: float, **identity: Any) -> dict[str, Any]:
    synthetic = bool(identity.pop("synthetic", False))
    return {**SUMMARY, "score": score, "synthetic": synthetic, "identity": SUMMARY["identity"] | identity}


def test_runs_of_one_benchmark_lie_beside_each_other_and_published_data_comes_first(client: Client) -> None:
    published, synthetic = result(30.0), result(90.0, profile="short", synthetic=True)
    assert client.record(synthetic)
    assert benchmark_scores.recorded(client.tags, "balrog")["score"] == 90.0  # type: ignore[index]  # it is there
    assert client.record(published)
    assert not client.record(synthetic)  # a run in which nothing has changed
    assert client.record({**synthetic, "score": 95.0})  # and one with new code
    first = benchmark_scores.recorded(client.tags, "balrog")
    assert first is not None
    assert (first["score"], benchmark_scores.kind(first)) == (30.0, "full, published data")
    found = benchmark_scores.benchmark_runs(client.tags, "balrog")
    assert {kept["score"] for kept in found.values()} == {30.0, 95.0}
    assert set(found) == {benchmark_scores.digest(published), benchmark_scores.digest(synthetic)}
    homes = {kept["records"] for kept in found.values()}
    assert len(homes) == 2
    assert {Path(path).parent.as_posix() for path in client.artifacts} == homes
    assert [value for key, value in client.metrics if key == "benchmarks/balrog"] == [90.0, 30.0]
    assert (f"benchmarks/{benchmark_scores.digest(synthetic)[:8]}/balrog", 95.0) in client.metrics


def test_a_benchmark_of_the_base_is_kept_beside_that_of_the_version(client: Client) -> None:
    assert client.record(result(1.0), "base")
    assert benchmark_scores.recorded(client.tags, "balrog") is None
    assert benchmark_scores.recorded(client.tags, "balrog", "base")["score"] == 1.0  # type: ignore[index]  # it is there
    assert client.metrics[0] == ("benchmarks/base/balrog", 1.0)


def test_a_run_whose_recording_was_cut_off_is_recorded_again(client: Client) -> None:
    client.record(result(30.0))
    del client.tags[next(tag for tag in client.tags if tag.startswith("benchmark.balrog."))]
    assert client.record(result(30.0))


def test_versions_are_compared_by_the_benchmark_that_both_ran() -> None:
    a, b = Client(), Client()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_scores, "log_input", lambda *_: None)
        patch.setattr(exports, "find", lambda *_: None)
        for summary in (result(30.0), result(90.0, profile="short", synthetic=True)):
            a.record(summary)
        b.record(result(80.0, profile="short", synthetic=True))
    versions: list[Any] = [SimpleNamespace(tags=client.tags, name="n", version=1) for client in (a, b)]
    scores = [kept["score"] for kept in benchmark_scores.comparable([a.tags, b.tags], "balrog") if kept is not None]
    assert scores == [90.0, 80.0]
    assert models._benchmark_lines("balrog", versions) == [
        "balrog: 30.00 +- 1.50 and 80.00 +- 1.50 (not the same benchmark)",
        "balrog, short, synthetic: 90.00 +- 1.50 and 80.00 +- 1.50",
    ]
    assert models._benchmark_lines("vsi_bench", versions) == []


@pytest.mark.slow
def test_benchmarks_follow_a_version_from_dvc_to_the_registry_and_decide_its_promotion(project: Path) -> None:
    def run(success: str, understanding: str, gamma: float) -> registry.Promotion:
        Path("success").write_text(success)
        Path("understanding").write_text(understanding)
        params = Path("params.yaml").read_text()
        Path("params.yaml").write_text(params.replace(f"gamma: {load('params.yaml').train.gamma}", f"gamma: {gamma}"))
        dvc("repro")
        registry.register(project, load("params.yaml"))
        return registry.promote(project, load("params.yaml"))

    first = run("0.8", "51.0", 0.95)
    assert first.decision.promote
    assert "general understanding 0.510 against 0.500 of the base model" in first.decision.reason
    assert json.loads(Path("metrics/benchmarks.json").read_text())["balrog"] == 51.0
    assert Path("scores/report/report.html").exists()

    client = runs.client(project)
    version = client.get_model_version(first.registered.name, "1")
    kept = benchmark_scores.recorded(version.tags, "balrog")
    assert kept is not None
    assert (kept["score"], kept["synthetic"], kept["profile"]) == (51.0, True, "short")
    base = benchmark_scores.recorded(version.tags, "balrog", "base")
    assert base is not None
    assert base["score"] == 50.0
    logged = exports.find(client, version.tags[exports.CONTENT])
    assert logged is not None
    metrics = {metric.key: metric for metric in client.get_logged_model(logged.model_id).metrics}
    assert metrics["benchmarks/balrog"].value == 51.0
    assert metrics["benchmarks/balrog"].dataset_digest == kept["digest"]
    assert metrics["benchmarks/understanding/a b"].value == 51.0
    files = [file.path for file in client.list_artifacts(version.run_id, kept["records"])]
    assert sorted(Path(path).name for path in files) == ["records.jsonl", "summary.json"]
    before = len(client.get_metric_history(version.run_id, "benchmarks/balrog"))
    registry.promote(project, load("params.yaml"))
    assert len(client.get_metric_history(version.run_id, "benchmarks/balrog")) == before

    second = run("0.97", "48.0", 0.9)
    assert not second.decision.promote
    assert "general understanding 0.480 against 0.510 of the champion fell by more than 0.02" in second.decision.reason

    name = first.registered.name
    printed = call(*BENCHMARK, f"models:/{name}@champion", "--benchmark", "vsi_bench", "--profile", "full")
    assert "vsi_bench: 48.0" in printed  # the fake reads the project's present file
    kept = benchmark_scores.recorded(client.get_model_version(name, "1").tags, "vsi_bench")
    assert kept is not None
    assert (kept["score"], kept["profile"]) == (48.0, "full")
    assert not list(project.glob(".local/fetched.*"))

    compared = call(*MODELS, "compare", f"{name}/1", f"{name}/2")
    assert "balrog: 51.00 +- 2.00 and 48.00 +- 2.00\n" in compared
    assert "vsi_bench: 48.00 +- 2.00 and 48.00 +- 2.00 (not the same benchmark)\n" in compared
    assert "vsi_bench, short, synthetic: 51.00 +- 2.00 and 48.00 +- 2.00\n" in compared
    registry.promote(project, load("params.yaml"))  # a run in which nothing has changed
    kept = benchmark_scores.recorded(client.get_model_version(name, "1").tags, "vsi_bench")
    assert kept is not None
    assert kept["profile"] == "full"
    call(*MODELS, "report", f"{name}/1", f"{name}/2", "--out", "side-by-side")
    page = Path("side-by-side/report.html").read_text()
    assert f"{name}/1" in page
    assert f"{name}/2" in page

    Path("failing").write_text("balrog")
    printed = call(*BENCHMARK, "models/base", "--benchmark", "balrog", "understanding", code=1)
    assert "understanding: 48.0" in printed
    assert "error: not benchmarked: balrog" in printed
    assert "no registered model 'vldac-nothing'" in call(*BENCHMARK, "vldac-nothing", "--benchmark", "balrog", code=1)
