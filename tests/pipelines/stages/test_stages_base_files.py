"""A base of one's own: DVC sees its files change, and what goes wrong with them is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.commands import models
from pipelines.stages import base_files
from pipelines.tracking import lineage
from tests.pipelines.conftest import dvc
from vldac.config import Config, parse
from vldac.utils.files import model_digest


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model's directory outside the project, with a file that is not loaded."""
    directory = tmp_path / "mine"
    directory.mkdir()
    for name, text in (("config.json", '{"model_type": "qwen2_vl"}'), ("model.safetensors", "1.0"), ("x.lock", "")):
        (directory / name).write_text(text)
    return directory


def links(root: Path) -> dict[str, Path]:
    return {path.name: path.readlink() for path in (root / base_files.DIRECTORY).iterdir() if path.is_symlink()}


def test_links_follow_the_base_that_is_configured(base: Path, tmp_path: Path) -> None:
    root, own = tmp_path / "project", parse({"model": {"base": str(base)}})
    base_files.link(root, own)
    expected = {name: base / name for name in ("config.json", "model.safetensors")}
    assert links(root) == expected
    (base / "tokenizer.json").write_text("{}")
    base_files.link(root, own)
    assert links(root) == {**expected, "tokenizer.json": base / "tokenizer.json"}
    (base / "config.json").unlink()  # DVC stops at a link that leads nowhere
    base_files.link(root, own)
    assert set(links(root)) == {"model.safetensors", "tokenizer.json"}
    for elsewhere in (Config(), parse({"model": {"base": "Qwen/Qwen2-VL-7B-Instruct"}})):
        base_files.link(root, elsewhere)
        assert not links(root)
        assert (root / base_files.DIRECTORY / ".gitignore").is_file()  # git keeps the folder, which DVC looks for
    assert (base / "model.safetensors").read_text() == "1.0"


@pytest.mark.slow
def test_dvc_sees_that_the_files_of_a_base_have_changed(project: Path, base: Path) -> None:
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("base: tiny", f"base: {base}"))
    dvc("repro", "base")
    assert "data/base" not in dvc("status", "base")
    before = (project / "models/base/base.json").read_text()
    (base / "model.safetensors").write_text("0.5")
    assert "data/base" in dvc("status", "base")
    dvc("repro", "base")
    assert (project / "models/base/base.json").read_text() != before
    assert "models/base" in dvc("status", "train")
    assert not list((project / ".dvc/cache").rglob("*safetensors*"))
    Path("params.yaml").write_text(params)  # and back to the model that is built here
    assert "Running stage 'base'" in dvc("repro", "base")
    assert (base / "model.safetensors").read_text() == "0.5"


def test_fetch_and_trace_say_that_the_registry_does_not_hold_a_base_of_ones_own(base: Path, tmp_path: Path) -> None:
    tags = {"model.base": str(base), "model.revision": "", "base.digest": model_digest(base)}
    held = f"{base} (digest {tags['base.digest']}), a directory that the registry does not hold; "
    assert lineage.base_of(tags) == held + "its files here are the same"
    (base / "model.safetensors").write_text("0.5")
    assert lineage.base_of(tags) == held + "its files here are OTHERS"
    gone = {**tags, "model.base": str(tmp_path / "gone")}
    assert lineage.base_of(gone).endswith("does not hold; it is not on this machine")
    assert lineage.base_of({"model.base": "a/b", "model.revision": "v1"}) == "a/b v1"
    out = tmp_path / "out"
    (out / "base").mkdir(parents=True)
    assert models._next_steps(out, tags)[0].startswith(f"{out} holds policy, base and params.yaml; their hashes")
    (out / "base/base.json").write_text(json.dumps({"base": str(base), "revision": None}))
    assert held in models._next_steps(out, tags)[0]
