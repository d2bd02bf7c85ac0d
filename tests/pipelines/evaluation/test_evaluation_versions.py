"""The evaluation of a registered version, and promotion by the rule, held against a registry in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mlflow.store.entities import PagedList

from pipelines.core.errors import PipelineError
from pipelines.evaluation import versions
from pipelines.evaluation.versions import Version
from pipelines.tracking import registry, runs
from vldac.config import Config, ConfigError

NAME = "vldac-world-v0-tiny"
OWN = {"env": {"id": "MiniWorld-OneRoom-v0", "num_envs": 8}, "rollout": {"steps": 8}, "evaluate": {"episodes": 50}}


def tags(success: float) -> dict[str, str]:
    score = {"success": success, "success_ci": [success - 0.05, success + 0.05]}
    return {
        "evaluate.trained": json.dumps(score),
        "params": json.dumps(Config.model_validate(OWN).model_dump(mode="json")),
    }


class Client:
    """As much of MLflow's client as `versions` uses."""

    def __init__(self, **scores: float) -> None:
        self.versions = {
            number: SimpleNamespace(name=NAME, version=int(number), tags=tags(score), run_id=f"run-{number}")
            for number, score in ((key.removeprefix("v"), score) for key, score in scores.items())
        }
        self.aliases: dict[str, str] = {"candidate": max(self.versions)}
        self.tags: dict[str, str] = {}

    def get_registered_model(self, _: str) -> Any:
        return SimpleNamespace(name=NAME, aliases=self.aliases, tags=self.tags)

    def search_registered_models(self, query: str = NAME) -> PagedList[Any]:
        return PagedList([self.get_registered_model(NAME)] if NAME in query or "LIKE" in query else [], None)

    def get_model_version(self, _: str, number: str) -> Any:
        return self.versions[number]

    def search_model_versions(self, query: str) -> list[Any]:
        return list(self.versions.values()) if NAME in query else []

    def set_model_version_tag(self, _: str, number: str, key: str, value: str) -> None:
        self.versions[number].tags[key] = value

    def set_registered_model_alias(self, _: str, alias: str, number: str) -> None:
        self.aliases[alias] = number

    def set_registered_model_tag(self, _: str, key: str, value: str) -> None:
        self.tags[key] = value


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client(v1=0.5, v2=0.9, v10=0.52)
    monkeypatch.setattr(runs, "client", lambda _root: made)
    return made


def test_a_version_is_found_by_number_and_by_alias(client: Client, tmp_path: Path) -> None:
    client.aliases = {"candidate": "10", "champion": "2"}
    assert versions.find(tmp_path, NAME, "2").aliases == ("champion",)
    assert versions.find(tmp_path, NAME, "@candidate").number == "10"
    assert versions.find(tmp_path, NAME, "champion").run_id == "run-2"
    assert [str(champion) for champion in versions.champions(tmp_path)] == [f"{NAME} version 2"]
    with pytest.raises(PipelineError, match="no version 3; choose from 1, 2, 10, @candidate, @champion"):
        versions.find(tmp_path, NAME, "3")
    with pytest.raises(PipelineError, match="no registered model 'vldac-other'"):
        versions.find(tmp_path, "vldac-other", "1")


def test_promotion_follows_the_rule_and_a_dry_run_changes_nothing(client: Client, tmp_path: Path) -> None:
    def promote(number: str, *, dry_run: bool = False) -> registry.Promotion:
        return registry.promote_version(tmp_path, NAME, number, dry_run=dry_run)

    tried = promote("1", dry_run=True)
    assert tried.decision.promote
    assert tried.champion is None
    assert "champion" not in client.aliases
    assert promote("1").champion == "1"  # the first
    assert promote("10").champion == "1"  # a little better
    assert promote("2").champion == "2"  # better beyond doubt
    assert client.versions["2"].tags["promotion.promoted"] == "true"
    assert not promote("2").decision.promote  # a second time
    assert client.aliases["champion"] == "2"
    client.versions["1"].tags = {}
    with pytest.raises(PipelineError, match="has no score"):
        promote("1")


def version(**other: str) -> Version:
    return Version(NAME, "1", (), {**tags(0.5), **other}, None)


def test_an_evaluation_is_by_the_versions_own_parameters_unless_told_otherwise(tmp_path: Path) -> None:
    own = versions.evaluation_config(tmp_path, version(), None, None)
    assert (own.env.id, own.evaluate.episodes) == ("MiniWorld-OneRoom-v0", 50)
    assert versions.evaluation_config(tmp_path, version(), None, 7).evaluate.episodes == 7

    other = {"env": {"id": "GymCards-NumberLine-v0", "width": 32, "num_envs": 16}, "train": {"gamma": 0.5}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    elsewhere = versions.evaluation_config(tmp_path, version(), "other.yaml", None)
    assert (elsewhere.env.id, elsewhere.env.width, elsewhere.env.num_envs) == ("GymCards-NumberLine-v0", 32, 8)
    assert elsewhere.train == own.train  # what belongs to the weights is not taken


def test_evaluations_of_one_version_do_not_take_each_others_directory(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(command: list[str], *_: Any, **__: Any) -> int:
        if not nested:  # a second evaluation starts and ends while the first one plays
            nested.append(Path())
            nested[0] = versions.evaluate(tmp_path, version(), Config(seed=2), print)
        Path(command[command.index("--out") + 1]).write_text(json.dumps({"seed": len(nested)}))
        return 0

    nested: list[Path] = []
    monkeypatch.setattr(versions.lineage, "fetch", lambda *_: None)
    monkeypatch.setattr(versions.repro.processes, "stream", play)
    (tmp_path / "extensions").mkdir()
    first = versions.evaluate(tmp_path, version(), Config(seed=1), print)
    assert first != nested[0]
    for directory, seed in ((first, 1), (nested[0], 2)):
        assert yaml.safe_load((directory / "params.yaml").read_text())["seed"] == seed
        assert (directory / "summary.json").exists()
    os.utime(first, (0, 0))
    third = versions.evaluate(tmp_path, version(), Config(), print)
    assert sorted(third.parent.iterdir()) == sorted([nested[0], third])


def test_a_params_file_outside_the_project_and_damaged_parameters_are_refused(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "secret.yaml").write_text("env: {}")
    with pytest.raises(PipelineError, match="is outside the project"):
        versions.evaluation_config(project, version(), "../secret.yaml", None)
    with pytest.raises(ConfigError, match="No such file"):
        versions.evaluation_config(project, version(), "missing.yaml", None)
    with pytest.raises(PipelineError, match="its parameters cannot be read"):
        versions.evaluation_config(project, version(params='{"train": {"gama": 1}}'), None, None)


def test_the_nightly_verdict_is_by_the_intervals() -> None:
    from pipelines.orchestration.flows import _compare  # noqa: PLC0415

    for now, verdict in (
        (registry.Score(0.3, 0.2, 0.4), "WORSE"),
        (registry.Score(0.48, 0.4, 0.6), "as before"),
        (registry.Score(0.8, 0.7, 0.9), "better"),
    ):
        assert _compare(version(), now)["verdict"].startswith(verdict)
    assert _compare(Version(NAME, "1", (), {}, None), now)["verdict"] == "was never scored"
