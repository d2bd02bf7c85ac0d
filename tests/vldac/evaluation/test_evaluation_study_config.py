"""Studies as files: their profiles, and how mistakes in them are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vldac.config import ConfigError
from vldac.evaluation.study import config

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
