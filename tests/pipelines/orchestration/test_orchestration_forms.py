"""What a Prefect server refuses at submission, by the check that it makes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from pipelines.core.errors import PipelineError
from pipelines.orchestration import flows, forms
from tests.pipelines.conftest import REPOSITORY
from vldac.config import Config


def submit(flow: Flow[..., Any], parameters: dict[str, Any]) -> None:
    validate(parameters, parameter_schema(flow).model_dump(), raise_on_error=True, ignore_required=True)


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    return [
        key
        for name, value in values.items()
        for key in (leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [prefix + name])
    ]


@pytest.mark.parametrize(
    ("flow", "right", "wrong"),
    [
        (
            flows.train_pipeline,
            {"overrides": ["seed=3", "model.tiny.layers=2", "env.options.solvable_only=true", "env=numberline"]},
            [{"overrides": [text]} for text in ("sed=3", "train.gama=0.9", "train.gamma.x=1", "seed", "seed=1\nx=2")],
        ),
        (flows.train_pipeline, {"presets": ["env=numberline", "train=numberline"]}, [{"presets": ["env=numberlin"]}]),
        (
            flows.evaluate_model,
            {"benchmarks": ["balrog"], "benchmark_options": ["limit=10", "agent=cot"]},
            [{"benchmark_options": ["limt=10"]}, {"benchmarks": ["balrg"]}, {"profile": "long"}],
        ),
    ],
)
def test_the_server_refuses_a_wrong_key_and_a_wrong_name(
    flow: Flow[..., Any], right: dict[str, Any], wrong: list[dict[str, Any]]
) -> None:
    submit(flow, right)
    flow.validate_parameters(right)  # and so does a run without a server
    for parameters in wrong:
        with pytest.raises(ValidationError, match=next(iter(parameters))):
            submit(flow, parameters)


def test_every_key_of_the_configuration_may_be_overridden() -> None:
    submit(flows.train_pipeline, {"overrides": [f"{key}=1" for key in leaves(Config().model_dump())]})


def test_the_presets_to_choose_from_are_those_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for name in forms.preset_names():
        assert (REPOSITORY / "conf" / f"{name.replace('=', '/')}.yaml").is_file()
    (tmp_path / "conf/env").mkdir(parents=True)
    (tmp_path / "conf/env/mine.yaml").write_text("{}")
    (tmp_path / "dvc.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert forms.preset_names() == ["env=mine"]


def test_a_benchmark_takes_the_options_that_it_has() -> None:
    given = ["limit=10", "agent=cot", "environments=[babyai, nle]"]
    assert forms.options_of(["balrog", "understanding"], given) == {
        "balrog": {"limit": 10, "agent": "cot", "environments": ["babyai", "nle"]},
        "understanding": {"limit": 10},
    }
    assert forms.options_of([], []) == {}
    with pytest.raises(PipelineError, match="understanding has no option agent; leave it out"):
        forms.options_of(["understanding"], given)
    with pytest.raises(PipelineError, match="limit is an option of benchmarks, and none is named"):
        forms.options_of([], given)
    with pytest.raises(PipelineError, match="limit: line 1: the alias"):
        forms.options_of(["balrog"], ["limit=*a"])
