"""Several pipelines at one registry, and a registered version behind MLflow's own server."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.tracking import exports, runs
from tests.pipelines.conftest import dvc

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
        expected = {"action": "pixel 5", "thoughts": "go", "text": "1x4x8x3 t=0.0 seed=0"}
        for body in ({"inputs": [question]}, {"dataframe_records": [question]}):
            assert ask(f"{url}/invocations", body) == {"predictions": [expected]}
        warm = ask(f"{url}/invocations", {"inputs": [question], "params": {"temperature": 0.5, "seed": 3}})
        assert warm["predictions"][0]["text"] == "1x4x8x3 t=0.5 seed=3"
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(f"{url}/invocations", {"inputs": [{"image": picture}]})
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()
