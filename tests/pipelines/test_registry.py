"""The rule of promotion, and a version's way from its weights to an answer."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipelines import registry, tracking
from pipelines.cli import PipelineError
from pipelines.registry import Score, decide
from tests.pipelines.conftest import call, commit, dvc
from vldac.config import load

CHAMPION = Score(0.80, 0.75, 0.85)


@pytest.mark.parametrize(
    ("candidate", "champion", "promoted", "why"),
    [
        (Score(0.1, 0.0, 0.2), None, True, "no champion"),
        (Score(0.95, 0.90, 0.98), CHAMPION, True, "do not overlap"),
        (Score(0.86, 0.82, 0.90), CHAMPION, False, "overlap"),
        (Score(0.90, 0.85, 0.95), CHAMPION, False, "overlap"),
        (Score(0.80, 0.75, 0.85), CHAMPION, False, "not better"),
        (Score(0.10, 0.05, 0.15), CHAMPION, False, "not better"),
    ],
    ids=["first", "clearly better", "a little better", "touching", "equal", "worse"],
)
def test_only_what_is_better_beyond_doubt_is_promoted(
    candidate: Score, champion: Score | None, promoted: bool, why: str
) -> None:
    decision = decide(candidate, champion)
    assert decision.promote is promoted
    assert why in decision.reason


def png(red: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4), (red, 0, 0)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def predict(name: str, observation: dict[str, object], **parameters: float) -> list[dict[str, str | None]]:
    """Loads a version by its alias in a process of its own, which finds the code only where it was logged."""
    program = (
        "import json, sys, mlflow; uri, name, x, p = sys.argv[1:]; mlflow.set_tracking_uri(uri)\n"
        "model = mlflow.pyfunc.load_model(f'models:/{name}@candidate')\n"
        "print('answers', json.dumps(model.predict(json.loads(x), params=json.loads(p))))"
    )
    uri = tracking.tracking_uri(Path.cwd())
    data = (json.dumps(observation), json.dumps(parameters))
    with contextlib.chdir("/"):
        printed = call(sys.executable, "-c", program, uri, name, *data)
    return json.loads(printed.rpartition("answers ")[2].splitlines()[0])


@pytest.fixture
def fake_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging a model tries it in this process, where the real `vldac` is imported."""
    spec = importlib.util.spec_from_file_location("vldac.policy", Path(__file__).parent / "fakes/policy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vldac.policy", module)
    spec.loader.exec_module(module)


@pytest.mark.slow
@pytest.mark.usefixtures("fake_actor")
def test_a_policy_becomes_one_version_that_answers_and_knows_its_origin(project: Path) -> None:
    config = load("params.yaml")
    with pytest.raises(PipelineError, match="run `dvc repro`"):
        registry.register(project, config)
    dvc("repro")
    commit("results")

    first = registry.register(project, config)
    assert first.new
    assert registry.register(project, config) == registry.Registered(first.name, first.version, new=False)
    assert first.name == "vldac-gymcards-numberline-v0-qwen2_vl"

    promotion = registry.promote(project, config)
    assert promotion.decision.promote
    assert promotion.champion == first.version
    again = registry.promote(project, config)
    assert not again.decision.promote
    assert again.champion == first.version

    client = tracking.client(project)
    version = client.get_model_version(first.name, first.version)
    assert sorted(client.get_registered_model(first.name).aliases) == ["candidate", "champion"]
    assert version.tags["git.dirty"] == "false"
    assert len(version.tags["git.revision"]) == 40
    assert version.tags["dvc.md5"].endswith(".dir")
    assert json.loads(version.tags["params"])["env"]["id"] == "GymCards-NumberLine-v0"
    assert json.loads(version.tags["evaluate.trained"])["success"] == 0.97
    run = client.get_run(version.run_id)
    assert run.data.tags[tracking.RUN_KEY] == json.loads(Path("runs/train.json").read_text())["run_key"]
    assert run.data.metrics["evaluate/trained/success"] == 0.97
    assert run.data.metrics["episode/success"] == 1.0

    one = {"image": png(5), "instruction": "go"}
    assert predict(first.name, one) == [{"action": "pixel 5", "thoughts": "go", "text": "1x4x8x3 t=0.0 seed=0"}]
    several = {"image": [png(6), png(7)], "instruction": "nonsense"}
    answers = predict(first.name, several, temperature=1.0)
    assert answers == [{"action": None, "thoughts": None, "text": "2x4x8x3 t=1.0 seed=0"}]

    # Other weights that are no better: a new candidate, the same champion.
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("gamma: 0.95", "gamma: 0.9"))
    Path("scores").write_text("0.96")
    dvc("repro", "train")
    second = registry.register(project, load("params.yaml"))
    assert second.new
    with pytest.raises(PipelineError, match="not of the present models/policy"):
        registry.promote(project, load("params.yaml"))
    dvc("repro")
    kept = registry.promote(project, load("params.yaml"))
    assert not kept.decision.promote
    assert kept.champion == first.version
    aliases = client.get_registered_model(first.name).aliases
    assert {name: str(number) for name, number in aliases.items()} == {
        "candidate": second.version,
        "champion": first.version,
    }
