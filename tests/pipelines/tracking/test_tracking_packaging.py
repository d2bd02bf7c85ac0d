"""Several pipelines at one registry, and a registered version behind MLflow's own server."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pipelines.core.project import content_hash
from pipelines.tracking import exports, lineage, registry, runs
from tests.pipelines.conftest import REPOSITORY, call, dvc
from vldac.config import load
from vldac.utils.files import write_json
from vldac.utils.seeding import derive_seed

REGISTER = "from pathlib import Path\nfrom pipelines.tracking import registry\nfrom vldac.config import load\n" + (
    "print(registry.register(Path.cwd(), load('params.yaml')).new)"
)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path.cwd()), "MLFLOW_DISABLE_TELEMETRY": "true"}


def ask(url: str, body: dict[str, Any]) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


@pytest.mark.slow
def test_one_version_is_made_by_two_registrations_at_once_and_is_served(project: Path) -> None:
    dvc("repro", "train")
    command = [sys.executable, "-c", REGISTER]
    at_once = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate() for process in at_once]
    assert [process.returncode for process in at_once] == [0, 0], said
    assert sorted(out.split()[-1] for out, _ in said) == ["False", "True"]
    client = runs.client(project)
    (model,) = client.search_registered_models()
    assert len(client.search_model_versions(f"name='{model.name}'")) == 1
    assert len(client.search_logged_models([exports.experiment_id(client)])) == 1

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{model.name}@candidate"]
    log = Path("serve.log").open("w")  # noqa: SIM115  # it outlives this line
    server = subprocess.Popen(
        [*serve, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env={**environment(), "MLFLOW_TRACKING_URI": runs.tracking_uri(project)},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, Path("serve.log").read_text()
                assert time.monotonic() < deadline, Path("serve.log").read_text()
                time.sleep(0.2)
        png = io.BytesIO()
        Image.new("RGB", (8, 4), (5, 0, 0)).save(png, "PNG")
        picture = base64.b64encode(png.getvalue()).decode()
        question = {"image": picture, "instruction": "go"}
        expected = {"action": "pixel 5", "thoughts": "go", "text": f"1x4x8x3 t=0.0 seed={derive_seed(0, 0)}"}
        for body in ({"inputs": [question]}, {"dataframe_records": [question]}):
            assert ask(f"{url}/invocations", body) == {"predictions": [expected]}
        warm = ask(f"{url}/invocations", {"inputs": [question], "params": {"temperature": 0.5, "seed": 3}})
        assert warm["predictions"][0]["text"] == f"1x4x8x3 t=0.5 seed={derive_seed(3, 0)}"
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(f"{url}/invocations", {"inputs": [{"image": picture}]})
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


FAMILY = """from vldac.models.qwen_vl import QwenVLAdapter

from helper import SAID


class Mine(QwenVLAdapter):
    \"\"\"A family of one's own.\"\"\"
"""
ANSWER = """import json, sys, mlflow
uri, name, question = sys.argv[1:]
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(f"models:/{name}@candidate")
(answer,) = model.predict(json.loads(question))
print("answered", sorted(answer), type(model.unwrap_python_model()._actor.vlm.family).__name__)
"""


@pytest.mark.slow
def test_a_policy_without_a_critic_and_of_a_family_of_ones_own_is_registered_and_answers(
    tiny_params: Any, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path /= "a project's 50%"  # MLflow reads paths as addresses; with "#" or "%20" it registers and cannot load
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    Path("extensions").mkdir()
    Path("extensions/helper.py").write_text("SAID = 1\n")
    Path("extensions/mine.py").write_text(FAMILY)
    shutil.copy(REPOSITORY / "tests/vldac/algorithms/toy_algorithm.py", "extensions")
    shutil.copytree(tiny_base, "models/base")
    params = tiny_params({"model": {"family": "mine:Mine"}, "train": {"algorithm": "toy_algorithm:Pairs"}})
    Path("params.yaml").write_text(yaml.safe_dump(params))
    config, code = load("params.yaml"), os.pathsep.join([str(REPOSITORY), str(tmp_path / "extensions")])
    call(sys.executable, "-m", "vldac.train", "--run-dir", "runs/0", env={"PYTHONPATH": code})
    assert not Path("models/policy/value_head.safetensors").exists()
    write_json(Path("runs/train.json"), {"run_key": "k", "fingerprint": "0", "started_ms": 0})
    write_json(Path("metrics/train.json"), {"environment_steps": 64})
    Path("dvc.lock").write_text("stages: {}")

    registered = registry.register(tmp_path, config)
    assert registered.new
    assert not registry.register(tmp_path, config).new
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (5, 0, 0)).save(picture, "PNG")
    question = json.dumps({"image": base64.b64encode(picture.getvalue()).decode(), "instruction": "go"})
    uri = runs.tracking_uri(tmp_path)
    with chdir("/"):  # where nothing of the project can be imported but what was logged
        printed = call(sys.executable, "-c", ANSWER, uri, registered.name, question, env={"PYTHONPATH": ""})
    assert "answered ['action', 'text', 'thoughts'] Mine" in printed
    version = lineage.find(runs.client(tmp_path), f"{registered.name}@candidate")
    lineage.fetch(tmp_path, version, tmp_path / "fetched")
    assert content_hash(tmp_path / "fetched/policy") == version.tags[exports.CONTENT]
