"""Exams of registered versions: where their results are kept, what promotion makes of them, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import checkpoints, examine, exams, registry, tracking
from tests.pipelines.conftest import call, dvc
from vldac.config import Config, load

EXAMINE = (sys.executable, "-m", "pipelines.examine")
MODELS = (sys.executable, "-m", "pipelines.models")
SUMMARY = {
    "exam": "balrog",
    "title": "BALROG",
    "synthetic": False,
    "score": 12.5,
    "standard_error": 1.5,
    "count": 255,
    "tasks": {"BabyAI/goto (1)": {"score": 25.0, "standard_error": 3.0, "count": 50}},
    "identity": {"profile": "full", "seed": 0},
}


def test_scores_of_an_exam_and_its_tasks_have_names_that_mlflow_takes() -> None:
    assert list(exams.scores(SUMMARY)) == [("balrog", 12.5), ("balrog/BabyAI-goto -1-", 25.0)]


def test_a_digest_tells_exams_apart_and_not_models() -> None:
    assert exams.digest(SUMMARY) == exams.digest({**SUMMARY, "score": 99.0})
    assert exams.digest(SUMMARY) != exams.digest({**SUMMARY, "identity": {"profile": "short", "seed": 0}})


@pytest.mark.parametrize(
    ("text", "is_registered"),
    [
        ("models:/vldac-a/3", True),
        ("vldac-a", True),
        ("name@champion", True),
        ("Qwen/Qwen2-VL-7B-Instruct", False),
        ("here/model", False),
    ],
)
def test_a_registered_version_is_told_from_a_model_of_a_hub(text: str, is_registered: bool) -> None:
    assert examine.registered(text) is is_registered


def test_records_of_other_options_and_models_lie_elsewhere(tmp_path: Path) -> None:
    made = {
        examine.out_of(tmp_path, model, exam, options)
        for model in ("a/b", "a-b", "../../b")
        for exam in ("balrog", "vsi_bench")
        for options in ([], ["--profile", "full"])
    }
    assert len(made) == 12
    assert all(path.resolve().is_relative_to(tmp_path / ".local/sittings") for path in made)


def test_the_stage_passes_on_what_the_configuration_says(tmp_path: Path) -> None:
    from pipelines.stages.exam import flags  # noqa: PLC0415

    (tmp_path / "vsi_bench").mkdir()
    config = Config.model_validate(
        {
            "exams": {"data": str(tmp_path), "frames": 9, "max_new_tokens": None, "environments": ("babyai", "nle")},
            "env": {"prompt": "full"},
        }
    )
    given = list(flags(config, "vsi_bench"))
    assert given[given.index("--frames") + 1] == "9"
    assert given[given.index("--style") + 1] == "full"
    assert given[given.index("--data") + 1] == str(tmp_path / "vsi_bench")
    assert "--data" not in list(flags(config, "balrog"))
    assert "--max-new-tokens" not in given
    assert given[-3:] == ["--environments", "babyai", "nle"]


@pytest.mark.slow
def test_exams_follow_a_version_from_dvc_to_the_registry_and_decide_its_promotion(project: Path) -> None:
    def run(success: str, understanding: str, gamma: float) -> registry.Promotion:
        Path("scores").write_text(success)
        Path("understanding").write_text(understanding)
        params = Path("params.yaml").read_text()
        Path("params.yaml").write_text(params.replace(f"gamma: {load('params.yaml').train.gamma}", f"gamma: {gamma}"))
        dvc("repro")
        registry.register(project, load("params.yaml"))
        return registry.promote(project, load("params.yaml"))

    first = run("0.8", "51.0", 0.95)
    assert first.decision.promote
    assert "general understanding 0.510 against 0.500 of the base model" in first.decision.reason
    assert json.loads(Path("metrics/exams.json").read_text())["balrog"] == 51.0
    assert Path("exams/report/report.html").exists()

    client = tracking.client(project)
    version = client.get_model_version(first.registered.name, "1")
    kept = exams.recorded(version.tags, "balrog")
    assert kept is not None
    assert (kept["score"], kept["synthetic"], kept["profile"]) == (51.0, True, "short")
    base = exams.recorded(version.tags, "balrog", "base")
    assert base is not None
    assert base["score"] == 50.0
    logged = checkpoints.find(client, version.tags[checkpoints.CONTENT])
    assert logged is not None
    metrics = {metric.key: metric for metric in client.get_logged_model(logged.model_id).metrics}
    assert metrics["exams/balrog"].value == 51.0
    assert metrics["exams/balrog"].dataset_digest == kept["digest"]
    assert metrics["exams/understanding/a b"].value == 51.0
    files = [file.path for file in client.list_artifacts(version.run_id, "exams/version-1/trained/balrog")]
    assert sorted(Path(path).name for path in files) == ["records.jsonl", "summary.json"]
    before = len(client.get_metric_history(version.run_id, "exams/balrog"))
    registry.promote(project, load("params.yaml"))
    assert len(client.get_metric_history(version.run_id, "exams/balrog")) == before

    second = run("0.97", "48.0", 0.9)
    assert not second.decision.promote
    assert "general understanding 0.480 against 0.510 of the champion fell by more than 0.02" in second.decision.reason

    name = first.registered.name
    printed = call(*EXAMINE, f"models:/{name}@champion", "--exam", "vsi_bench", "--profile", "full")
    assert "vsi_bench: 48.0" in printed  # the fake reads the project's present file
    kept = exams.recorded(client.get_model_version(name, "1").tags, "vsi_bench")
    assert kept is not None
    assert (kept["score"], kept["profile"]) == (48.0, "full")
    assert not list(project.glob(".local/examined.*"))

    compared = call(*MODELS, "compare", f"{name}/1", f"{name}/2")
    assert "balrog: 51.00 +- 2.00 and 48.00 +- 2.00\n" in compared
    assert "vsi_bench: 48.00 +- 2.00 and 48.00 +- 2.00 (not the same exam)" in compared
    call(*EXAMINE, f"{name}/1", "--exam", "vsi_bench", "--profile", "short")
    call(*MODELS, "report", f"{name}/1", f"{name}/2", "--out", "side-by-side")
    page = Path("side-by-side/report.html").read_text()
    assert f"{name}/1" in page
    assert f"{name}/2" in page

    Path("failing").write_text("balrog")
    printed = call(*EXAMINE, "models/base", "--exam", "balrog", "understanding", code=1)
    assert "understanding: 48.0" in printed
    assert "error: not examined: balrog" in printed
    assert "no registered model 'vldac-nothing'" in call(*EXAMINE, "vldac-nothing", "--exam", "balrog", code=1)


def test_an_exam_is_recorded_once(tmp_path: Path) -> None:
    tags = {exams.TAG + "balrog": json.dumps({"score": 12.5, "standard_error": 1.5, "count": 255, "synthetic": False,
                                              "profile": "full", "digest": exams.digest(SUMMARY)})}  # fmt: skip
    version: Any = SimpleNamespace(tags=tags, run_id="r", version=1, name="n")
    client: Any = None  # is not asked
    assert not exams.record(client, version, SUMMARY, tmp_path)
