"""A version's way from its weights to an answer, to the champion's place and back, and the commands that show it."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from PIL import Image

from pipelines.commands import cli
from pipelines.core.errors import PipelineError
from pipelines.core.project import content_hash
from pipelines.tracking import exports, lineage, packaging, registry, runs
from tests.pipelines.conftest import call, commit, dvc
from vldac.config import Config, load
from vldac.utils.seeding import derive_seed


def png(red: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4), (red, 0, 0)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def predict(name: str, observation: Mapping[str, object], **parameters: float) -> list[dict[str, str | None]]:
    """Loads a version by its alias in a process of its own, which finds the code only where it was logged."""
    program = (
        "import json, sys, mlflow; uri, name, x, p = sys.argv[1:]; mlflow.set_tracking_uri(uri)\n"
        "model = mlflow.pyfunc.load_model(f'models:/{name}@candidate')\n"
        "print('answers', json.dumps(model.predict(json.loads(x), params=json.loads(p))))"
    )
    uri = runs.tracking_uri(Path.cwd())
    data = (json.dumps(observation), json.dumps(parameters))
    with contextlib.chdir("/"):
        printed = call(sys.executable, "-c", program, uri, name, *data)
    return json.loads(printed.rpartition("answers ")[2].splitlines()[0])


@pytest.fixture
def fake_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging a model tries it in this process, where the real `vldac` is imported."""
    spec = importlib.util.spec_from_file_location("vldac.acting", Path(__file__).parents[1] / "fakes/acting.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vldac.acting", module)
    spec.loader.exec_module(module)


@pytest.fixture
def keeping(project: Path) -> Path:
    """A project whose fakes keep policies on the way, and score them by their update."""
    train = Path("vldac/train.py")
    train.write_text(
        train.read_text()
        + "for update in config.exported_updates:\n"
        + "    kept = options.run_dir / 'exports' / f'update-{update:06d}'\n"
        + "    kept.mkdir(parents=True, exist_ok=True)\n"
        + "    (kept / 'adapter_model.safetensors').write_bytes(f'{update} {config.train.gamma}'.encode())\n"
    )
    simulator = Path("vldac/evaluation/episodes.py")
    simulator.write_text(
        simulator.read_text()
        .replace("options = ", "parser.add_argument('--checkpoints', nargs='*', type=Path, default=[])\noptions = ", 1)
        .replace(
            "options.episodes_dir.mkdir",
            "summary['checkpoints'] = [\n"
            "    {'name': path.name, 'environment_steps': 32 * update, **score(update / 20)}\n"
            "    for path in options.checkpoints for update in [int(path.name[-6:])]\n"
            "]\n"
            "options.episodes_dir.mkdir",
            1,
        )
    )
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("export_every: 0", "export_every: 4"))
    commit("keeps policies")
    return project


@pytest.mark.usefixtures("mlflow_database")
def test_models_are_found_however_many_there_are(tmp_path: Path) -> None:
    client = runs.client(tmp_path)
    names = [f"vldac-{number:03}" for number in range(101)]  # MLflow's pages have a hundred
    for name in [*names, "of-another-program"]:
        client.create_registered_model(name)
    assert [model.name for model in registry.models(client)] == names


def test_what_takes_long_to_travel_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []

    @contextlib.contextmanager
    def progress(label: str) -> Iterator[None]:
        said.append(label)
        yield

    monkeypatch.setattr(runs, "Progress", progress)
    monkeypatch.setattr(runs, "client", lambda _: None)
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda artifact_uri, dst_path: dst_path)
    with pytest.raises(PipelineError, match="models:/vldac-a/3 holds no policy"):
        lineage.fetch(tmp_path, ModelVersion("vldac-a", 3, 0), tmp_path / "out")
    assert said == ["fetching vldac-a/3"]


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: None) -> MlflowClient:
    """A registry in which the versions 1 to 4 of the model `m` have been champions in turn."""
    monkeypatch.chdir(tmp_path)
    client = runs.client(tmp_path)
    client.create_registered_model("m")
    for number in range(1, 5):
        client.create_model_version("m", source=f"file://{tmp_path}")
        registry._set_champion(client, "m", [str(n) for n in range(1, number + 1)])
    return client


def champion(client: MlflowClient) -> str:
    return str(client.get_registered_model("m").aliases["champion"])


def test_a_rollback_passes_over_versions_that_were_deleted(versions: MlflowClient, tmp_path: Path) -> None:
    versions.delete_model_version("m", "3")
    assert registry.rollback(tmp_path, "m", "it cheats") == ("4", "2")
    assert champion(versions) == "2"
    assert versions.get_model_version("m", "4").tags["rollback.reason"] == "it cheats"
    versions.delete_model_version("m", "2")  # the present one, and its alias with it
    assert registry.rollback(tmp_path, "m", "gone") == ("2", "1")
    assert champion(versions) == "1"
    with pytest.raises(PipelineError, match="has had no champion before"):
        registry.rollback(tmp_path, "m", "again")


@pytest.mark.parametrize("request_", ["model_version_tag", "registered_model_alias", "registered_model_tag"])
def test_a_rollback_that_is_cut_off_is_finished_by_the_same_call(
    request_: str, versions: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(f"mlflow.MlflowClient.set_{request_}", refuse)
        with pytest.raises(PipelineError, match="away"):
            registry.rollback(tmp_path, "m", "it cheats")
    assert registry.rollback(tmp_path, "m", "it cheats") == ("4", "3")
    assert champion(versions) == "3"
    assert registry.history(versions, "m") == ["1", "2", "3"]
    assert versions.get_model_version("m", "4").tags["rollback.reason"] == "it cheats"
    assert "rollback.reason" not in versions.get_model_version("m", "3").tags
    assert registry.rollback(tmp_path, "m", "this one too") == ("3", "2")


def test_a_quick_look_does_not_replace_a_score_of_more_episodes() -> None:
    def version(**tags: str) -> Any:
        score = json.dumps({"success": 0.98, "episodes": 200})
        return SimpleNamespace(tags={"evaluate.trained": score, "dvc.environment.md5": "a", **tags})

    assert registry._says_more(version(), "a", than=10)
    assert not registry._says_more(version(), "a", than=200)
    assert not registry._says_more(version(), "another simulator", than=10)
    assert registry._says_more(version(**{"evaluate.environment.md5": "b"}), "b", than=10)
    never: Any = SimpleNamespace(tags={})
    assert not registry._says_more(never, "a", than=10)


def test_a_champion_of_another_machine_is_not_overwritten(
    versions: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = {"success": 1.0, "success_ci": [0.98, 1.0], "episodes": 200}
    versions.set_model_version_tag("m", "3", "evaluate.trained", json.dumps(score))
    decide = registry.decide

    def meanwhile(*arguments: Any, **more: Any) -> Any:
        versions.set_registered_model_alias("m", "champion", "1")
        return decide(*arguments, **more)

    monkeypatch.setattr(registry, "decide", meanwhile)
    with pytest.raises(PipelineError, match="m got another champion meanwhile; run the same command again"):
        registry._promote(versions, "m", "3", dry_run=False)
    assert champion(versions) == "1"


def test_a_rollback_of_an_unknown_name_says_which_there_are(versions: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no registered model is called 'n'; choose from m"):
        registry.rollback(tmp_path, "n", "it cheats")
    assert champion(versions) == "4"


def test_scores_of_two_tasks_are_not_held_against_each_other(versions: MlflowClient) -> None:
    def describe(number: str, success: float, **env: object) -> None:
        score = {"success": success, "success_ci": [success - 0.05, success], "episodes": 200}
        versions.set_model_version_tag("m", number, "evaluate.trained", json.dumps(score))
        versions.set_model_version_tag("m", number, "params", json.dumps({"env": {"id": "FrozenLake", **env}}))

    describe("4", 0.7, options={})
    for options, promoted in (({"kwargs": {"is_slippery": False}}, False), (None, True)):
        describe("3", 1.0, options=options)
        found = registry._promote(versions, "m", "3", dry_run=True).decision
        assert found.promote is promoted
        assert ("was scored in another task (env.options differ)" in found.reason) is not promoted


@pytest.mark.usefixtures("mlflow_database")
def test_weights_that_are_links_into_a_cache_are_logged_as_files(tmp_path: Path) -> None:
    """As `dvc config cache.type symlink` lays them out, read-only."""
    cache, kept = tmp_path / "cache", tmp_path / "models/checkpoints/update-000004"
    cache.mkdir()
    kept.mkdir(parents=True)
    (cache / "abc").write_bytes(b"weights")
    (cache / "abc").chmod(0o444)
    (kept / "adapter_model.safetensors").symlink_to(cache / "abc")
    listing = {"checkpoints": [{"path": kept.name, "update": 4, "environment_steps": 128}]}
    (cache / "def").write_text(json.dumps(listing))
    (kept.parent / "index.json").symlink_to(cache / "def")
    client = runs.client(tmp_path)
    run = client.create_run(exports.experiment_id(client))
    (model_id,) = exports.log(client, tmp_path, Config(), run.info.run_id, {})
    (stored,) = (tmp_path / ".local/mlartifacts").rglob("adapter_model.safetensors")
    assert stored.read_bytes() == b"weights"
    assert not stored.is_symlink()
    assert exports.log(client, tmp_path, Config(), run.info.run_id, {}) == [model_id]
    assert not list((tmp_path / ".local").glob("upload.*"))

    with exports.dereferenced(kept.parent / "index.json") as file:  # a single file, as a benchmark's records are
        assert file.name == "index.json"
        assert not file.is_symlink()
    with exports.dereferenced(cache) as plain:
        assert plain == cache  # gigabytes are not copied for nothing


def test_requirements_are_versions_that_an_index_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaging.metadata, "version", lambda name: "2.13.0+cpu" if name == "torch" else "1.2.3")
    assert "torch==2.13.0" in packaging.requirements()
    assert not [line for line in packaging.requirements() if "+" in line]


@pytest.mark.slow
@pytest.mark.usefixtures("fake_actor")
def test_a_policy_becomes_one_version_that_answers_and_knows_its_origin(
    keeping: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        capfd.readouterr()
        assert cli.call(["models", *arguments]) == code
        return "".join(capfd.readouterr())

    project, config = keeping, load("params.yaml")
    with pytest.raises(PipelineError, match="run `dvc repro`"):
        registry.register(project, config)
    Path("success").write_text("0.75")
    dvc("repro")
    commit("results")

    first = registry.register(project, config)
    assert first.new
    assert registry.register(project, config) == registry.Registered(first.name, first.version, new=False)
    name = first.name
    assert name == "vldac-gymcards-numberline-v0-qwen2_vl"

    promotion = registry.promote(project, config)
    assert promotion.decision.promote
    assert promotion.champion == first.version
    again = registry.promote(project, config)
    assert not again.decision.promote
    assert again.champion == first.version

    client = runs.client(project)
    version = client.get_model_version(name, first.version)
    assert sorted(client.get_registered_model(name).aliases) == ["candidate", "champion"]
    line, _, table, *_ = version.description.splitlines()
    assert re.match(r"Success 0\.750 \[.*\] on 200 unseen episodes; 320 steps, seed 0\. GymCards-Num.*, vldac", line)
    assert table.startswith("|  | success [95% interval] |")
    assert version.tags["git.dirty"] == "false"
    assert len(version.tags["git.revision"]) == 40
    assert version.tags["dvc.md5"].endswith(".dir")
    assert json.loads(version.tags["params"])["env"]["id"] == "GymCards-NumberLine-v0"
    assert json.loads(version.tags["evaluate.trained"])["success"] == 0.75
    run_ = client.get_run(version.run_id)
    assert run_.data.tags[runs.RUN_KEY] == json.loads(Path("runs/train.json").read_text())["run_key"]
    assert run_.data.metrics["evaluate/trained/success"] == 0.75
    assert run_.data.metrics["episode/success"] == 1.0
    attached = {
        artifact.path
        for folder in ("", "plots", "metrics")
        for artifact in client.list_artifacts(run_.info.run_id, folder)
    }
    assert {"params.yaml", "plots/learning_curve.png", "plots/learning_curve.csv", "metrics/summary.json"} <= attached
    sets = [json.loads(entry.dataset.profile) for entry in run_.inputs.dataset_inputs]
    assert {described["episodes"] for described in sets if "episodes" in described} == {
        config.evaluate.episodes,
        config.evaluate.checkpoint_episodes,
    }

    # Every policy that was kept is a logged model with its step and its score, once, and the best is first.
    expected = [("320", 0.75), ("256", 0.4), ("128", 0.2)]
    ranked = exports.ranked(client)
    assert [(model.params["environment_steps"], exports.success(model)) for model in ranked] == expected
    assert {metric.step for metric in ranked[2].metrics} == {128}
    assert {output.step for output in run_.outputs.model_outputs} == {128, 256, 320}
    client.set_model_version_tag(name, first.version, "evaluate.success", "lost")  # as if the write had been cut off
    registry.promote(project, config)
    assert [len(m.metrics) for m in exports.ranked(client)] == [len(model.metrics) for model in ranked]
    history = client.get_metric_history(version.run_id, "evaluate/success")
    assert sorted((metric.step, metric.value) for metric in history) == [(128, 0.2), (256, 0.4), (320, 0.75)]

    one = {"image": png(5), "instruction": "go"}
    assert predict(name, one) == [
        {"action": "pixel 5", "thoughts": "go", "text": f"1x4x8x3 t=0.0 seed={derive_seed(0, 0)}"}
    ]
    several = {"image": [png(6), png(7)], "instruction": "nonsense"}
    answers = predict(name, several, temperature=1.0)
    assert answers == [{"action": None, "thoughts": None, "text": f"2x4x8x3 t=1.0 seed={derive_seed(0, 0)}"}]

    # Other weights that are better beyond doubt: a new candidate, then a new champion.
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("gamma: 0.95", "gamma: 0.9"))
    Path("success").write_text("0.96")
    dvc("repro", "train")
    config = load("params.yaml")
    second = registry.register(project, config)
    assert second.new
    with pytest.raises(PipelineError, match="not of the present models/policy"):
        registry.promote(project, config)
    dvc("repro")
    assert registry.promote(project, config).champion == second.version
    assert registry.history(client, name) == [first.version, second.version]
    assert len(exports.ranked(client)) == 6

    # The commands, as a person types them.
    listed = run("list")
    assert re.search(rf"{name}/1 +0\.750 \[0\.700, 0\.800\] +0\n", listed)
    assert re.search(rf"{name}/2 +0\.960 .* 0 +@candidate @champion\n", listed)
    assert re.search(r"^0\.960 +320 +GymCards-NumberLine-v0", run("list", "--checkpoints"), re.MULTILINE)
    compared = run("compare", f"{name}/1", f"models:/{name}@champion")
    assert f"{name}/2 is better than {name}/1, and the 95% intervals do not overlap" in compared
    assert re.search(r"^train\.gamma +0\.95 +0\.9$", compared, re.MULTILINE)
    traced = run("trace", f"models:/{name}/1")
    assert "in the DVC cache, with the same hash" in traced
    assert version.tags["git.revision"] in traced
    assert version.run_id in traced
    assert '"gamma": 0.95' in traced
    gone = run("rollback", name, "--reason", "it cheats")
    assert f"version {first.version} is @champion again" in gone
    assert "does not become @champion: it was rolled back: it cheats" in run("promote", f"{name}@candidate")
    assert "has had no champion before" in run("rollback", name, "--reason", "again", code=1)
    assert str(client.get_registered_model(name).aliases["champion"]) == first.version

    # What is fetched is what was registered, or nothing.
    out = tmp_path / "fetched"
    run("fetch", f"models:/{name}@champion", str(out))
    assert content_hash(out / "policy") == version.tags["content.sha256"]
    assert load(out / "params.yaml").train.gamma == 0.95
    assert "exists already" in run("fetch", f"models:/{name}@champion", str(out), code=1)
    client.set_model_version_tag(name, first.version, "content.sha256", "0" * 64)
    assert "are not those that were registered" in run("fetch", f"{name}/1", str(tmp_path / "other"), code=1)
    assert not (tmp_path / "other").exists()
    assert "DAMAGED" in run("trace", f"{name}/1")
    for wrong, said in ((f"{name}/9", "choose from 1, 2, @candidate"), ("nobody@champion", "no registered model")):
        assert said in run("trace", wrong, code=1)


@pytest.mark.usefixtures("mlflow_database")
def test_a_deleted_experiment_is_said_with_the_command_that_brings_it_back(tmp_path: Path) -> None:
    client = runs.client(tmp_path)
    number = exports.experiment_id(client)
    client.delete_experiment(number)
    with (
        pytest.raises(PipelineError, match=rf"`mlflow experiments restore --experiment-id {number}` brings") as said,
        runs.reachable(tmp_path),
    ):
        client.create_run(number)
    assert "once it can" not in str(said.value)
    with pytest.raises(PipelineError, match="not found; it has been changed there"), runs.reachable(tmp_path):
        client.get_run("0" * 32)
