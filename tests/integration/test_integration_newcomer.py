"""What a new user types, in order and in one project: train, watch, a world of one's own, play, tidy up."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.integration.browser import opened, served
from tests.integration.service_client import clean_environment
from tests.integration.test_integration_make_run import call, clone
from vldac.config import parse

pytestmark = pytest.mark.slow

TRAIN = ("environment", "base", "train", "register")
EXAMINE = ("evaluate", "promote")  # test_integration_make_run has the benchmarks too
SHORT = {
    "warm_start": {"updates": 20},
    "train": {"total_steps": 32},
    "evaluate": {"episodes": 4},
}
WORLD = "extensions.my_maze:MyMaze"
NAME = "vldac-extensions.my_maze-mymaze-qwen2_vl"


def test_a_newcomer_trains_watches_writes_a_world_plays_it_and_tidies_up(tmp_path: Path, tiny_params: Any) -> None:
    root = clone(tmp_path / "project", parse(tiny_params(SHORT)).model_dump(mode="json"))

    def vldac(*arguments: str) -> str:
        said = call(root, sys.executable, "-m", "vldac", *arguments)
        for noise in ("Traceback", "Warning", "\x1b"):
            assert noise not in said
        return said

    printed = vldac("run", "--steps", *TRAIN, *EXAMINE)
    assert "trained model" in printed
    assert "promote: version 1 does not become @champion (there was no champion; " in printed

    assert "open watch/index.html in a browser" in vldac("watch", "--base", "--episodes", "2")
    page = (root / "watch/index.html").read_text()
    assert "trained: models/policy" in page
    assert not re.search(r"(src|href)=.https?:", page)  # it needs no other file
    with Image.open(root / "watch/episodes.gif") as gif:
        assert getattr(gif, "n_frames", 1) > 1

    next_steps = vldac("envs", "new", "my_maze").splitlines()
    assert next_steps[1:] == [
        "vldac envs check my_maze",
        "python -m pytest extensions/test_my_maze.py",
        "vldac run --set env=my_maze",
    ]
    verdicts = [line.split()[0] for line in vldac(*next_steps[1].split()[1:]).splitlines()]
    assert set(verdicts) == {"ok"}
    printed = vldac(*next_steps[3].split()[1:], "--set", "env.num_envs=4", "--steps", *TRAIN)
    assert WORLD in printed
    assert f"registered      {NAME}" in printed

    # The rule would promote nothing that has learned so little; a person does, as on MLflow's page.
    client = mlflow.MlflowClient(f"sqlite:///{root}/.local/mlflow.db")
    client.set_registered_model_alias(NAME, "champion", "1")

    env = {**clean_environment(root), "OMP_NUM_THREADS": "1"}
    with served(root, f"{NAME}@champion", tmp_path / "play.log", env) as address, opened(address) as shown:
        expect(shown.get_by_role("status")).to_have_text("Your move, or the model's.")
        assert shown.get_by_label("Environment").input_value() == WORLD
        assert shown.locator("#model").input_value() == f"{NAME}/1"
        shown.get_by_role("button", name="Ask and act").click()
        expect(shown.locator("#steps li")).to_have_count(1)
        expect(shown.locator("#said")).not_to_be_empty()

    oldest = ("--older-than", "0h", "--keep-last", "0")
    would = vldac("gc", "--dry-run", *oldest)
    checkouts = list((root / ".local/checkouts").glob("*-seed-*"))
    assert len(checkouts) == 1  # a look removes nothing
    did = vldac("gc", *oldest)
    assert re.search(r"^would free [1-9]", would, re.M)
    assert re.search(r"^freed [1-9]", did, re.M)
    assert not checkouts[0].exists()
    shutil.rmtree(root / "models")  # which `dvc checkout` would bring back

    assert "with the same hash" in vldac("models", "trace", f"models:/{NAME}@champion")
    vldac("models", "fetch", f"models:/{NAME}@champion", "fetched")
    described = json.loads((root / "fetched/policy/vldac.json").read_text())
    assert described["config"]["env"]["id"] == WORLD
