"""Studies as files: their profiles, and how mistakes in them are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vldac.config import ConfigError
from vldac.evaluation.study import __main__ as command_line
from vldac.evaluation.study import config
from vldac.evaluation.study.matrix import cells

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": [1]}, "unknown key 'seed'; did you mean 'seeds'?"),
        ({"environments": [{"nam": "x"}]}, "environments.0: unknown key 'nam'; did you mean 'name'?"),
        (
            {"algorithms": [{"name": "vldac", "option": {}}]},
            "algorithms.0: unknown key 'option'; did you mean 'options'?",
        ),
        ({"grid": {"value": {}}}, "grid: unknown key 'value'; did you mean 'values'?"),
        ({"ablations": [{"name": "a", "algorithm": "vldca"}]}, "algorithm 'vldca' is not in the study; did you mean"),
        (
            {"grid": {"values": {}, "environments": ["L1ne"]}},
            "environment 'L1ne' is not in the study; did you mean 'Line'?",
        ),
        ({"algorithms": ["vldac", "vldac"]}, "algorithm vldac is there twice"),
        ({"benchmarks": [{"name": "vsi_bench", "overide": {}}]}, "benchmarks.0: unknown key 'overide'; did you mean"),
        ({"benchmarks": ["vsi_bench"], "exams": [{"name": "vsi_bench"}]}, "exam vsi_bench is there twice"),
        ({"seeds": []}, "seeds: List should have at least 1 item"),
    ],
)
def test_a_mistake_is_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    values = {"environments": [{"name": "Line"}], "algorithms": ["vldac"], "seeds": [0]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}))
    with pytest.raises(ConfigError) as error:
        config.read(path)
    assert any(line.startswith(f"{path}: ") and said in line for line in str(error.value).splitlines())


def test_profiles_are_found_by_name() -> None:
    assert config.find("smoke") == REPOSITORY / "conf/study/smoke.yaml"
    assert config.find("some/mine.yaml") == Path("some/mine.yaml")
    with pytest.raises(ConfigError, match="unknown study 'smok'; did you mean 'smoke'"):
        config.find("smok")


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(["0", "0", "0"], "seed 0 is there twice"), (["-1"], r"vldac study: seeds\.0: should be greater")],
)
@pytest.mark.parametrize("study", [["smoke"], []])
def test_wrong_seeds_of_the_command_line_are_a_line(study: list[str], seeds: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        command_line.main([*study, "--dry-run", "--seeds", *seeds])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("env_id", ["openenv:http://127.0.0.1:8000", "gymnasium:ALE/Pong-v5"])
def test_any_environment_of_a_params_file_can_be_studied(env_id: str) -> None:
    study = command_line.of_params(None, [f"env.id={env_id}"], (0, 1))
    assert [cell.config.env.id for cell in cells(study, [f"env.id={env_id}"])] == [env_id] * 2
    assert "/" not in study.environments[0].name
