"""All of `make run` at tiny scale: real models, real simulators, real Git, DVC, Prefect and MLflow."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.integration.service_client import clean_environment
from tests.integration.watch import outside, watched

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def call(root: Path, *command: str, env: dict[str, str] | None = None) -> str:
    """Runs a command in a project as its user would, without this user's own environment variables."""
    env = env or clean_environment(root)  # the packages of the copy, not those of the installation
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def clone(root: Path, params: dict[str, Any]) -> Path:
    """A committed copy of this checkout's files, as a newcomer's clone would have them."""
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    ).stdout.split(b"\0")
    for name in (name.decode() for name in files if name):
        if (REPOSITORY / name).is_file() and not name.startswith("tests/"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((REPOSITORY / name).read_bytes())
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    call(root, "git", "add", "-A")
    call(root, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "start")
    return root


def test_make_run_trains_registers_and_benchmarks_and_dvc_alone_gives_the_same_weights(
    tmp_path: Path, tiny_config: Any
) -> None:
    params = tiny_config().model_dump(mode="json")  # DVC wants every parameter that a stage names written out
    root = clone(tmp_path / "project", params)
    printed = call(root, sys.executable, "-m", "vldac", "run", env=watched(tmp_path, root))
    assert "127.0.0.1" in (tmp_path / "connections").read_text()  # its own Prefect server
    assert outside(tmp_path) == []

    # What the user is shown.
    for words in ("random policy", "base model", "acts at random", "trained model", "plots/learning_curve.png"):
        assert words in printed
    assert "make prefect" in printed
    assert "make mlflow" in printed
    summary = json.loads((root / "metrics/summary.json").read_text())
    for policy in ("random", "base", "trained"):
        assert set(summary[policy]) >= {"success", "success_ci", "return", "steps_to_goal", "episodes"}
        assert summary[policy]["episodes"] == params["evaluate"]["episodes"]
    scores = json.loads((root / "metrics/benchmarks.json").read_text())
    assert set(scores) == {"understanding", "vsi_bench", "visual_web_bench", "balrog"}
    for name, score in scores.items():
        assert 0 <= score <= 100
        records = (root / f"scores/trained/{name}/records.jsonl").read_text().splitlines()
        assert len(records) == json.loads((root / f"scores/trained/{name}/summary.json").read_text())["count"] > 0
    assert "General understanding (synthetic)" in printed
    assert "trained model" in (root / "scores/report/report.html").read_text()
    for picture in ("learning_curve", "filmstrip", "benchmarks"):
        with Image.open(root / f"plots/{picture}.png") as image:
            assert min(image.size) > 200

    # The registered version leads back to these weights, and answers.
    check = """
import json, sys
from pathlib import Path
import mlflow, yaml
mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/.local/mlflow.db")
client = mlflow.MlflowClient()
name = client.search_registered_models()[0].name
version = client.get_model_version_by_alias(name, "candidate")
lock = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["train"]["outs"]
assert version.tags["dvc.md5"] == next(o["md5"] for o in lock if o["path"] == "models/policy")
assert version.tags["git.dirty"] == "false"
run = client.get_run(version.run_id)
assert run.data.metrics["environment_steps"] == 64, run.data.metrics
assert float(run.data.params["train.gamma"]) == 0.95
model = mlflow.pyfunc.load_model(f"models:/{name}@candidate")
print("ANSWER", json.dumps(model.predict([json.loads(sys.argv[1])])[0]))
"""
    png = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(png, "PNG")
    request = {"image": base64.b64encode(png.getvalue()).decode(), "instruction": "number line."}
    answer = call(root, sys.executable, "-c", check, json.dumps(request)).partition("ANSWER ")[2]
    assert set(json.loads(answer.splitlines()[0])) == {"action", "thoughts", "text"}

    # A second run finds everything done.
    again = call(root, sys.executable, "-m", "vldac", "run")
    for stage in (
        "code",
        "environment",
        "base",
        "train",
        "evaluate",
        "benchmark-data",
        *(f"benchmark@{name}" for name in scores),
        "report",
    ):
        assert f"{stage}: up to date" in again

    # DVC alone, elsewhere, without a server: the same weights, metrics, plots and answers, bit for bit.
    other = clone(tmp_path / "other", params)
    call(other, "dvc", "repro", "evaluate", "benchmark@understanding")
    ours, theirs = (yaml.safe_load((place / "dvc.lock").read_text())["stages"] for place in (root, other))
    for name in ("base", "train", "evaluate", "benchmark-data", "benchmark@understanding"):
        outs = [{out["path"]: out["md5"] for out in stages[name]["outs"]} for stages in (ours, theirs)]
        for made in outs:
            made.pop("runs/train.json", None)  # names the run
        assert outs[0] == outs[1]
