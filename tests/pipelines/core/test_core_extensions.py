"""Code of the user's own: where it is looked for, and what is refused since DVC would not see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.core import extensions
from pipelines.core.errors import PipelineError
from vldac.config import Config, parse


def config(env_id: str, place: str = "extensions") -> Config:
    return parse({"env": {"id": env_id}, "extensions": place})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "extensions/package").mkdir(parents=True)
    for name in ("inside.py", "package/deep.py"):
        (tmp_path / "extensions" / name).write_text("")
    (tmp_path / "outside.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "env_id",
    [
        "MiniWorld-Hallway-v0",
        "inside:Own",
        "package.deep:Own",
        "extensions.inside:Own",
        "envs.pictures:Pictures",
        "gymnasium.envs.classic:X",
        "gymnasium:CartPole-v1",
        "gymnasium:vldac/NumberLine-v0",
        "gymnasium:extensions.inside:Own-v0",
    ],
)
def test_what_dvc_or_a_version_tells_apart_is_accepted(root: Path, env_id: str) -> None:
    extensions.check(root, config(env_id))


def test_what_lies_elsewhere_is_refused_with_cause_and_cure(root: Path) -> None:
    with pytest.raises(PipelineError) as refused:
        extensions.check(root, config("outside:Own"))
    assert str(refused.value) == (
        f"env.id outside:Own: {root / 'outside.py'} lies outside `extensions` (extensions), so DVC would not see its "
        "changes; move it there or set `extensions`"
    )
    with pytest.raises(PipelineError, match=r"no module nowhere_at_all in extensions.*; put it there, or install it"):
        extensions.check(root, config("nowhere_at_all:Own"))
    with pytest.raises(PipelineError, match=r"env.id outside:Own-v0: .*outside.py lies outside `extensions`"):
        extensions.check(root, config("gymnasium:outside:Own-v0"))
    with pytest.raises(PipelineError, match="does not exist; create the folder"):
        extensions.check(root, config("MiniWorld-Hallway-v0", "missing"))
    for place in ("../elsewhere", "."):
        with pytest.raises(PipelineError, match="is not in the project"):
            extensions.search_path(root, config("inside:Own", place))


def test_a_single_file_may_be_named_and_its_neighbors_are_not_meant(root: Path) -> None:
    extensions.check(root, config("outside:Own", "outside.py"))
    (root / "neighbor.py").write_text("")
    with pytest.raises(PipelineError, match=r"neighbor.py lies outside `extensions` \(outside.py\)"):
        extensions.check(root, config("neighbor:Own", "outside.py"))


def test_a_package_under_development_is_refused_as_its_version_says_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"url": "file:///src", "dir_info": {"editable": True}}
    distribution = SimpleNamespace(read_text=lambda _: json.dumps(described))
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"outside": ["outside"]})
    monkeypatch.setattr(metadata, "distribution", lambda _: distribution)
    with pytest.raises(PipelineError, match="lies outside"):
        extensions.check(root, config("outside:Own"))
    described["dir_info"] = {}
    extensions.check(root, config("outside:Own"))


def test_children_import_what_lies_there_after_all_else(root: Path) -> None:
    env = extensions.environment(root, config("inside:Own"), {**os.environ, "PYTHONPATH": "first"})
    assert env["PYTHONPATH"] == os.pathsep.join(["first", str(root / "extensions")])
    subprocess.run([sys.executable, "-c", "import inside"], env=env, check=True)
    assert extensions.entry_points(config("package.deep:Own")) == {"env.id": "package.deep:Own"}
    assert extensions.entry_points(Config()) == {}


def test_what_goes_along_with_a_model_lets_both_spellings_be_imported(tmp_path: Path) -> None:
    own = tmp_path / "extensions"
    (own / "package").mkdir(parents=True)
    (own / "__pycache__").mkdir()
    for name in ("corridor.py", "helper.py", "README.md", "package/__init__.py"):
        (own / name).write_text("")
    for value in ("corridor:Corridor", "extensions.corridor:Corridor"):
        config = parse({"env": {"id": value}})
        assert extensions.packaged(tmp_path, config) == [own, own / "corridor.py", own / "helper.py", own / "package"]
    assert extensions.packaged(tmp_path, Config()) == []  # what is not named does not go along
    assert extensions.packaged(tmp_path, parse({"env": {"id": "elsewhere:Corridor"}})) == []
    single = parse({"env": {"id": "corridor:Corridor"}, "extensions": "extensions/corridor.py"})
    assert extensions.packaged(tmp_path, single) == [own / "corridor.py"]
