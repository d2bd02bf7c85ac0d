"""A version is pushed and pulled back as it was registered, or not at all; no test goes online."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard, ModelCardData

from pipelines.core.errors import PipelineError
from pipelines.core.project import content_hash
from pipelines.tracking import hub, lineage, model_card
from vldac.config import Config

RESULT = {"success": 0.75, "success_ci": [0.6, 0.9], "return": 0.5, "steps_to_goal": 7.25, "episodes": 60}


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Version 3 of a registered model, and a registry that holds its files."""
    files = tmp_path / "registry"
    for part, text in (("policy", "weights"), ("base", "base weights")):
        (files / part).mkdir(parents=True)
        (files / part / "model.safetensors").write_text(text)
    (files / "params.yaml").write_text("seed: 0\n")
    tags = {
        "params": json.dumps(Config().model_dump(mode="json")),
        "content.sha256": content_hash(files / "policy"),
        "base.sha256": content_hash(files / "base"),
        "git.revision": "abc",
    }
    made = SimpleNamespace(name="vldac-x", version=3, tags=tags)
    (files / "README.md").write_text(model_card.card(made))
    monkeypatch.setattr(lineage, "fetch", lambda root, version, out: shutil.copytree(files, out))
    return made


def test_a_pushed_version_comes_back_with_its_card_and_its_lineage(tmp_path: Path, version: Any) -> None:
    target = tmp_path / "shared" / "model"
    assert hub.push(tmp_path, version, str(target)) == str(target)
    out = tmp_path / "pulled"
    about = hub.pull(str(target), out)
    assert (about["name"], about["version"], about["tags"]["git.revision"]) == ("vldac-x", "3", "abc")
    names = ("README.md", "base", "params.yaml", "policy", "version.json")
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert content_hash(out / "policy") == version.tags["content.sha256"]
    assert sorted(tmp_path.glob(".local/push.*")) == []
    with pytest.raises(PipelineError, match="exists already"):
        hub.pull(str(target), out)


def change(path: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / path).write_text(text)


def linked(path: Path) -> None:
    """Puts what is at `path` beside its folder, and a link to it in its place."""
    elsewhere = path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(elsewhere)


def test_what_git_or_a_download_leaves_in_a_folder_is_not_taken(tmp_path: Path, version: Any) -> None:
    target = tmp_path / "model"
    hub.push(tmp_path, version, str(target))
    names = sorted(path.relative_to(target) for path in target.rglob("*"))
    for left in (
        ".gitattributes",
        ".git/config",
        ".cache/huggingface/README.md.metadata",
        "policy/model.bin",
        "run.py",
    ):
        (target / left).parent.mkdir(parents=True, exist_ok=True)
        (target / left).write_text("nothing of a version")
    (target / ".git/link").symlink_to("/etc")
    hub.pull(str(target), out := tmp_path / "pulled")
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == names


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change("policy/model.safetensors", "other"), "the files of policy are not those that were registered"),
        (change("base/more.json", "{}"), "the files of base are not those that were registered"),
        (change("version.json", "[]"), "version.json is missing or damaged"),
        (change("version.json", '{"name": "x", "version": "3", "tags": {"content.sha256": 1}}'), "damaged"),
        (
            lambda folder: (folder / "policy/link.json").symlink_to("/etc/hostname"),
            "policy/link.json, a link; take a folder with",
        ),
        (lambda folder: linked(folder / "policy"), "holds no policy"),
        (lambda folder: linked(folder / "params.yaml"), "params.yaml, a link"),
        (lambda folder: os.mkfifo(folder / "policy/pipe.json"), "policy/pipe.json, which is no file of a version"),
        (lambda folder: shutil.rmtree(folder / "base"), "holds no base"),
        (lambda folder: (folder / "params.yaml").unlink(), "holds no params.yaml"),
        (lambda folder: (folder / "version.json").unlink(), "holds no version.json"),
    ],
)
def test_what_was_not_registered_is_refused(
    tmp_path: Path, version: Any, spoil: Callable[[Path], Any], said: str
) -> None:
    target = tmp_path / "model"
    hub.push(tmp_path, version, str(target))
    spoil(target)
    with pytest.raises(PipelineError, match=said):
        hub.pull(str(target), tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    assert not list(tmp_path.glob(".pulled.*"))


class Hub:
    """Stands in for the hub: one repository, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private: bool | None = None

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.private = private
        return f"https://hub/{repository}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, delete_patterns: list[str]
    ) -> None:
        assert (repo_id, commit_message) == ("me/mine", "vldac-x version 3")
        for path in self.folder.rglob("*") if self.folder.exists() else ():
            if path.is_file() and any(fnmatch(str(path.relative_to(self.folder)), p) for p in delete_patterns):
                path.unlink()
        shutil.copytree(folder_path, self.folder, dirs_exist_ok=True)

    def download(self, repository: str, *, revision: str | None, local_dir: Path, allow_patterns: list[str]) -> None:
        assert (repository, revision) == ("me/mine", "v1")
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder)
            if any(name.match(pattern) for pattern in allow_patterns):
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, local_dir / name)


def test_a_version_travels_by_the_hub(tmp_path: Path, version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.download)
    assert hub.push(tmp_path, version, "hf://me/mine") == "https://hub/me/mine"
    assert fake.private
    (fake.folder / "run_me.py").write_text("never fetched")
    (fake.folder / "policy/older.safetensors").write_text("of a version before")
    hub.push(tmp_path, version, "hf://me/mine")
    hub.pull("hf://me/mine@v1", tmp_path / "pulled")
    assert not (tmp_path / "pulled/run_me.py").exists()
    assert not (tmp_path / "pulled/policy/older.safetensors").exists()
    with pytest.raises(PipelineError, match="names no repository; write hf://owner/name"):
        hub.push(tmp_path, version, "hf://mine")


def test_a_hub_that_cannot_be_used_is_one_line(tmp_path: Path, version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, said in (
        (OSError("\n no token \n more"), "no token"),
        (huggingface_hub.errors.HFValidationError("no name may hold --"), "no name may hold --"),
    ):

        def refuse(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(PipelineError, match=rf"^the hub cannot be used: {said}; `hf auth login` signs in"):
            hub.pull("hf://me/mine", tmp_path / "pulled")


def metadata(text: str) -> ModelCardData:
    """What the hub reads of a card."""
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def test_a_card_has_the_scores_and_the_metadata_of_the_hub(version: Any) -> None:
    bare = model_card.card(version)
    assert "Not evaluated yet." in bare
    assert metadata(bare).eval_results is None
    benchmark = {"score": 41.2, "standard_error": 2.5, "count": 100, "profile": "short", "synthetic": True}
    version.tags |= {f"evaluate.{policy}": json.dumps(RESULT) for policy in ("random", "base", "trained")}
    version.tags["benchmark.understanding"] = json.dumps({**benchmark, "digest": "0"})
    text = model_card.card(version)
    assert "| trained model | 0.750 [0.600, 0.900] | 0.500 | 7.2 | 60 |" in text
    assert "| understanding (short, synthetic) | - | 41.20 ± 2.50 | 100 |" in text
    assert version.tags["content.sha256"] in text
    data = metadata(text)
    assert {result.metric_type: result.metric_value for result in data.eval_results or ()} == {
        "success": 0.75,
        "return": 0.5,
        "steps_to_goal": 7.25,
    }
    assert data.get("base_model") is None


def test_a_card_names_the_base_that_the_hub_has(version: Any) -> None:
    params = Config().model_dump(mode="json")
    params["model"] |= {"base": "Qwen/Qwen2-VL-2B-Instruct", "revision": "abc"}
    del params["env"]["prompt"]  # of a version that is older than this parameter
    version.tags["params"] = json.dumps(params)
    text = model_card.card(version)
    assert metadata(text).base_model == "Qwen/Qwen2-VL-2B-Instruct"
    assert "- Base: Qwen/Qwen2-VL-2B-Instruct at revision abc." in text
    assert "prompt style `unknown`" in text
