"""`vldac play`: which models the page offers, and what cannot be opened."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.commands import cli, pages
from pipelines.evaluation import playing
from pipelines.tracking import runs
from vldac.config import Config, EnvConfig
from vldac.evaluation.play.app import Chosen
from vldac.evaluation.play.models import Choice


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a policy, its base and no registry."""
    monkeypatch.chdir(tmp_path)
    described = {"adapter": True, "config": {"model": {"base": "tiny"}, "env": {"id": "MiniWorld-Hallway-v0"}}}
    for name, file, content in (("policy", "vldac.json", described), ("base", "config.json", {})):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / file).write_text(json.dumps(content))
    (tmp_path / "extensions").mkdir()
    return tmp_path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Choice], int, Chosen, Mapping[str, EnvConfig]]]:
    """What would be served."""
    found: list[tuple[list[Choice], int, Chosen, Mapping[str, EnvConfig]]] = []

    def serve(
        find: Callable[[], Sequence[Choice]], port: int, chosen: Chosen, presets: Mapping[str, EnvConfig]
    ) -> None:
        found.append((list(find()), port, chosen, presets))

    monkeypatch.setattr(playing, "serve", serve)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_directories_are_offered_where_there_is_no_registry(here: Path, served: list[Any]) -> None:
    port = free_port()
    assert cli.call(["play", "--port", str(port)]) == 0
    ((choices, at, chosen, presets),) = served
    assert [(one.name, one.environment) for one in choices] == [
        ("models/policy", "MiniWorld-Hallway-v0"),
        ("models/base", "MiniWorld-OneRoomS6Fast-v0"),  # of the default parameters
    ]
    assert (at, chosen, presets) == (port, Chosen(), {})
    assert not (here / ".local").exists()  # no registry was made to look into


def test_what_is_named_is_what_the_page_opens_with(here: Path, served: list[Any]) -> None:
    shutil.copytree(here / "models", here / "other")
    words = ["play", "other/policy", "--env", "GymCards-NumberLine-v0", "--port", str(free_port())]
    assert cli.call(words) == 0
    assert cli.call(["play", "--model", "models/base", "--port", str(free_port())]) == 0
    (first, _, chosen, _), (second, _, other, _) = served
    assert [one.name for one in first] == ["other/policy", "models/policy", "models/base"]
    assert chosen == Chosen("GymCards-NumberLine-v0", "other/policy")
    assert [one.name for one in second] == ["models/base", "models/policy"]
    assert other == Chosen(None, "models/base")


def test_presets_of_the_projects_own_environments_may_be_chosen(
    here: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "dvc.yaml").touch()
    (here / "conf/env").mkdir(parents=True)
    for name, text in (
        ("my_maze", "{id: 'extensions.my_maze:MyMaze', max_steps: 9}"),
        ("hallway", "{id: MiniWorld-Hallway-v0}"),
        ("cards", "{id: GymCards-Points24-v0, options: {solvable_only: true}}"),
        ("damaged", "{id: 1"),
    ):
        (here / f"conf/env/{name}.yaml").write_text(text)
    for env in ("my_maze", "cards"):
        assert cli.call(["play", "--env", env, "--port", str(free_port())]) == 0
    (_, _, chosen, presets), (*_, more) = served
    assert chosen.environment == "my_maze"
    assert {name: (env.id, env.max_steps) for name, env in presets.items()} == {
        "my_maze": ("extensions.my_maze:MyMaze", 9)
    }
    assert more["cards"].options == {"solvable_only": True}
    assert capsys.readouterr().err.startswith("warning: conf/env/damaged.yaml: ")
    assert cli.call(["play", "--env", "damaged", "--port", str(free_port())]) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nothing/here"], "nothing/here holds no model; train one with `vldac run`, or name another"),
        (["--env", "NumberLine"], "unknown environment 'NumberLine'; did you mean"),
        (["--port", "70000"], "70000 is no port"),
    ],
)
def test_what_is_not_there_is_one_line(
    here: Path, served: list[Any], capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    assert cli.call(["play", *(["--port", str(free_port())] if "--port" not in words else []), *words]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {reason}")
    assert said.count("\n") == 1
    assert served == []


def test_a_port_that_is_taken_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.call(["play", "--port", str(port)]) == 1
    assert f"port {port} cannot be used" in capsys.readouterr().err


def test_a_port_of_either_family_is_looked_at() -> None:
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with socket.socket(family) as probe:
            try:
                probe.bind((host, 0))
            except OSError:  # a machine without IPv6
                continue
            port = probe.getsockname()[1]
        pages.free(port, host, "another")


def test_a_directory_is_known_to_have_been_made_anew(here: Path) -> None:
    def stamps() -> list[object]:
        return [one.stamp and one.stamp() for one in playing.choices(here)]

    policy, base = before = stamps()
    assert before == stamps()
    (here / "models/policy/adapter_model.safetensors").write_bytes(b"other weights")
    assert stamps()[0] != policy
    assert stamps()[1] == base
    policy, base = stamps()
    (here / "models/base/config.json").write_text("[]")
    assert stamps()[0] != policy  # an adapter lies on its base
    assert stamps()[1] != base
    policy, base = stamps()
    (here / "params.yaml").write_text("seed: 1\n")
    assert stamps()[0] == policy
    assert stamps()[1] != base


@pytest.mark.usefixtures("mlflow_database")
def test_registered_versions_come_first_and_are_fetched_when_chosen(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = runs.client(here)
    client.create_registered_model("vldac-world")
    params = json.dumps({"env": {"id": "GymCards-EZPoints-v0"}})
    score = json.dumps({"success": 0.5, "success_ci": [0.4, 0.6]})
    for tags in ({}, {"params": params, "evaluate.trained": score}):
        client.create_model_version("vldac-world", source=str(here / "models/policy"), tags=tags)
    client.set_registered_model_alias("vldac-world", "champion", "2")
    choices = playing.choices(here)
    assert [(one.name, one.note, one.environment) for one in choices[:2]] == [
        ("vldac-world/2", "@champion, success 0.500", "GymCards-EZPoints-v0"),
        ("vldac-world/1", "", None),
    ]
    assert [one.name for one in choices[2:]] == ["models/policy", "models/base"]

    client.create_registered_model("of-another-program")
    client.create_model_version("of-another-program", source=str(here / "models/policy"))
    client.create_model_version("vldac-world", source=str(here / "models/policy"))
    with monkeypatch.context() as few:
        few.setattr(playing, "_MOST", 1)
        names = [one.name for one in playing.choices(here)]
    assert names == ["vldac-world/3", "vldac-world/2", "models/policy", "models/base"]  # the champion, however old

    @contextmanager
    def opened(root: Path, model: str) -> Any:
        assert (root, model) == (here, "models:/vldac-world/2")
        yield SimpleNamespace(paths=("--base", "fetched/base", "--policy", "fetched/policy"), code=Config())

    player = SimpleNamespace(config=SimpleNamespace(deepspeed=SimpleNamespace(threads=1)))
    loaded: list[Any] = []

    def load(*paths: Any) -> Any:
        loaded.append(paths)
        return player

    monkeypatch.setattr(playing.benchmarks, "opened", opened)
    monkeypatch.setattr(playing, "load_player", load)
    assert choices[0].load() is player
    assert loaded == [("fetched/base", Path("fetched/policy"), "models:/vldac-world/2")]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert [one.name for one in playing.choices(here)] == ["models/policy", "models/base"]
    assert capsys.readouterr().err.startswith("warning: MLflow at http://127.0.0.1:9 cannot be used")
