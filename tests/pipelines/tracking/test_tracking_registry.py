"""A version's way from its weights to an answer, to the champion's place and back, and the commands that show it."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from pipelines.commands import cli
from pipelines.core.errors import PipelineError
from pipelines.core.project import content_hash
from pipelines.tracking import exports, registry, runs
from tests.pipelines.conftest import call, commit, dvc
from vldac.config import load


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
    spec = importlib.util.spec_from_file_location("vldac.policy", Path(__file__).parents[1] / "fakes/policy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vldac.policy", module)
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
    assert re.fullmatch(r"Success 0\.750 \[.*\] on 200 unseen episodes; 320 steps, seed 0\.", version.description)
    assert version.tags["git.dirty"] == "false"
    assert len(version.tags["git.revision"]) == 40
    assert version.tags["dvc.md5"].endswith(".dir")
    assert json.loads(version.tags["params"])["env"]["id"] == "GymCards-NumberLine-v0"
    assert json.loads(version.tags["evaluate.trained"])["success"] == 0.75
    run_ = client.get_run(version.run_id)
    assert run_.data.tags[runs.RUN_KEY] == json.loads(Path("runs/train.json").read_text())["run_key"]
    assert run_.data.metrics["evaluate/trained/success"] == 0.75
    assert run_.data.metrics["episode/success"] == 1.0
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
    assert predict(name, one) == [{"action": "pixel 5", "thoughts": "go", "text": "1x4x8x3 t=0.0 seed=0"}]
    several = {"image": [png(6), png(7)], "instruction": "nonsense"}
    answers = predict(name, several, temperature=1.0)
    assert answers == [{"action": None, "thoughts": None, "text": "2x4x8x3 t=1.0 seed=0"}]

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
