"""Hashes and revisions that lineage rests on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.core.errors import PipelineError
from pipelines.core.project import cache_directory, content_hash, family, home, revision
from pipelines.tracking import runs
from tests.pipelines.conftest import call, commit, dvc
from vldac.utils.files import write_json


def test_a_content_hash_is_of_names_and_bytes_and_of_nothing_else(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "a").write_text("1")
    (model / "sub/b").write_text("2")
    first = content_hash(model)

    (model / "__pycache__").mkdir()
    (model / "__pycache__/x.pyc").write_text("")
    (model / "a").touch()
    assert content_hash(model) == first
    shutil.copytree(model, tmp_path / "other/model")
    assert content_hash(tmp_path / "other/model") == first
    (model / "a").rename(model / "c")
    assert content_hash(model) != first
    with pytest.raises(PipelineError, match="nothing is missing"):
        content_hash(tmp_path / "nothing")


def test_results_do_not_make_a_revision_dirty_and_sources_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert revision(tmp_path).commit == "none"
    call("git", "init", "-q")
    assert revision(tmp_path).commit == "none"
    (tmp_path / "code.py").write_text("")
    commit("start")
    assert len(revision(tmp_path).commit) == 40
    for result in ("metrics/train.json", "dvc.lock", "plots/learning_curve.csv", "params.yaml"):
        write_json(tmp_path / result, {})
    assert not revision(tmp_path).dirty
    (tmp_path / "new.py").write_text("")
    assert revision(tmp_path).dirty


def test_a_project_may_be_a_folder_of_a_larger_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call("git", "init", "-q")
    project = tmp_path / "research/project"
    project.mkdir(parents=True)
    (project / "code.py").write_text("")
    commit("start")
    for result in ("metrics/train.json", "dvc.lock", "params.yaml"):
        write_json(project / result, {})
    write_json(tmp_path / "elsewhere.json", {})  # of no concern to the project
    assert not revision(project).dirty
    write_json(project / "src/models/layer.json", {})  # is called like a result, and is none
    assert revision(project).dirty


def test_the_family_comes_from_the_model_or_from_what_it_points_to(tmp_path: Path) -> None:
    base = tmp_path / "models/base"
    write_json(base / "base.json", {"base": "Qwen/Qwen2-VL-7B-Instruct", "revision": None})
    assert family(tmp_path) == "qwen2-vl-7b-instruct"
    write_json(tmp_path / "elsewhere/config.json", {"model_type": "qwen2_5_vl"})
    write_json(base / "base.json", {"base": str(tmp_path / "elsewhere"), "revision": None})
    assert family(tmp_path) == "qwen2_5_vl"


def test_a_path_at_which_a_databases_address_would_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r'why\?/project has a "\?" in its path, .*; rename it'):
        home(tmp_path / "why?/project")
    root = tmp_path / "50% of %20 #1"
    runs.client(root).create_registered_model("m")
    assert (root / ".local/mlflow.db").is_file()


def test_the_cache_is_where_dvc_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call("git", "init", "-q")
    dvc("init", "-q")
    assert cache_directory(tmp_path).resolve() == tmp_path / ".dvc/cache"
    dvc("cache", "dir", "--local", "shared cache")
    assert cache_directory(tmp_path).resolve() == tmp_path / "shared cache"
