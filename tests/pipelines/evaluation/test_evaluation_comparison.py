"""Two versions on the same episodes: which are paired, by which parameters each plays, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pipelines.core.errors import PipelineError
from pipelines.evaluation import comparison, versions
from pipelines.evaluation.versions import Version
from pipelines.tracking import runs
from vldac.config import Config


def version(number: str, **sections: Any) -> Version:
    values = Config.model_validate(sections).model_dump(mode="json")
    return Version("vldac-a", number, (), {"params": json.dumps(values)}, f"run-{number}")


FIRST = version("1", seed=3, env={"frames": 1}, evaluate={"episodes": 50})
SECOND = version("2", seed=8, env={"frames": 2}, evaluate={"episodes": 200})


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Config]:
    """By version, the parameters with which it played; the second is better, and has lost an episode."""
    configs: dict[str, Config] = {}
    successes = {"1": {1: False, 2: False, 3: True, 4: True}, "2": {3: True, 2: True, 1: True}}

    def evaluate(
        _root: Path, of: Version, config: Config, _say: Callable[[str], None], *, policies: Sequence[str]
    ) -> Path:
        assert policies == ("trained",)
        configs[of.number] = config
        (tmp_path / of.number / "episodes").mkdir(parents=True)
        lines = [json.dumps({"seed": seed, "success": won}) for seed, won in successes[of.number].items()]
        (tmp_path / of.number / "episodes/trained.jsonl").write_text("\n".join(lines))
        return tmp_path / of.number

    monkeypatch.setattr(versions, "evaluate", evaluate)
    return configs


def test_the_same_episodes_are_compared_and_the_result_is_kept(
    played: dict[str, Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = Mock()
    monkeypatch.setattr(runs, "client", lambda _: client)
    found = comparison.compare(tmp_path, FIRST, SECOND, episodes=4, say=print)
    assert (found.episodes, found.only_first, found.only_second) == (3, 0, 2)
    assert {config.seed for config in played.values()} == {3}
    assert {config.evaluate.episodes for config in played.values()} == {4}
    assert [played[number].env.frames for number in "12"] == [1, 2]  # each is shown what it was trained on
    (tag,) = client.set_model_version_tag.call_args_list
    name, number, key, text = tag.args
    assert (name, number, key) == ("vldac-a", "2", "compared.vldac-a.1")
    (line,) = comparison.summaries({key: text, "evaluate.success": "0.5"})
    assert line.startswith("against vldac-a/1 on the same episodes: +0.667 [")
    logged = {call.args[1]: call.args[2] for call in client.log_metric.call_args_list}
    assert logged["compared/vldac-a/1/difference"] == pytest.approx(2 / 3)
    assert comparison.verdict(FIRST, SECOND, found).startswith(
        "this does not say which is better: vldac-a/2 by +0.667 ["
    )
    assert comparison.row(FIRST, SECOND, found)["only the second"] == "2"


def test_versions_of_two_environments_are_not_compared(played: dict[str, Config], tmp_path: Path) -> None:
    other = version("2", env={"max_steps": 10})
    with pytest.raises(PipelineError, match=r"differ in env\.max_steps; compare versions of one environment"):
        comparison.compare(tmp_path, FIRST, other, say=print)
    assert not played
