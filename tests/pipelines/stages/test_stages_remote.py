"""Weights that travel: pushed, pulled by a colleague, brought back with an old commit, made again to the same bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.core.project import content_hash
from tests.pipelines.conftest import call, commit, dvc

pytestmark = pytest.mark.slow
#: What git does not keep.
KEPT_BY_DVC = ("data", "models", "evaluations", "runs/train.json")


def outs(root: Path) -> dict[str, str]:
    """The md5 of everything that the stages make, but for the identity of the run that made it."""
    stages = yaml.safe_load((root / "dvc.lock").read_text())["stages"].values()
    return {out["path"]: out["md5"] for stage in stages for out in stage["outs"] if out["path"] != "runs/train.json"}


def colleague(root: Path, path: Path) -> Path:
    """A clone that pulls what git does not hold, and has nothing left to do."""
    call("git", "clone", "-q", str(root), str(path))
    with chdir(path):
        assert not Path("models").exists()
        dvc("pull")
        printed = dvc("repro")
        assert "Running stage" not in printed
        assert dvc("status").strip() == "Data and pipelines are up to date."
    for name in KEPT_BY_DVC:
        assert content_hash(path / name) == content_hash(root / name), name
    return path


def test_a_colleague_pulls_weights_instead_of_training_and_old_commits_bring_old_weights(
    finished_project: Path, tmp_path: Path
) -> None:
    project = finished_project
    dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    commit("remote")
    first, weights = outs(project), content_hash(project / "models/policy")
    dvc("push")
    other = colleague(project, tmp_path / "colleague")

    # Made again from nothing, the same bytes.
    dvc("repro", "--force")
    assert outs(project) == first

    # Other weights, then the old ones back by their commit.
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("gamma: 0.95", "gamma: 0.9"))
    dvc("repro")
    commit("second")
    second = content_hash(project / "models/policy")
    assert second != weights
    call("git", "checkout", "-q", "HEAD~1")
    dvc("checkout")
    assert content_hash(project / "models/policy") == weights
    call("git", "checkout", "-q", "-")
    dvc("checkout")
    assert content_hash(project / "models/policy") == second

    # What the colleague changes is trained; what was pulled is not.
    with chdir(other):
        Path("params.yaml").write_text(params.replace("gamma: 0.95", "gamma: 0.9"))
        printed = dvc("repro")
        assert "Running stage 'train'" in printed
        assert "Running stage 'base'" not in printed
        assert content_hash(other / "models/policy") == second


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3-compatible server on this machine, and credentials for it."""
    from moto import server  # noqa: PLC0415  # seconds to import, for one test

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    made = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    made.start()
    yield made.get_host_and_port()
    made.stop()


def test_an_s3_compatible_store_serves_as_the_remote(project: Path, s3: tuple[str, int]) -> None:
    import boto3  # noqa: PLC0415  # it comes with the extra

    endpoint = f"http://{s3[0]}:{s3[1]}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="weights")
    dvc("remote", "add", "--default", "store", "s3://weights/vldac")
    dvc("remote", "modify", "store", "endpointurl", endpoint)
    dvc("remote", "modify", "store", "region", "us-east-1")
    dvc("repro", "base")
    made = content_hash(project / "models/base")
    dvc("push")
    for place in (".dvc/cache", "models"):
        shutil.rmtree(project / place)
    dvc("pull", "base")
    assert content_hash(project / "models/base") == made
    # Credentials come from the environment; none is written down.
    assert "secret" not in Path(".dvc/config").read_text()
