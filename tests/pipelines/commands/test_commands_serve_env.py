"""`vldac envs serve` where it cannot serve; tests/envs/test_openenv.py has what it serves."""

from __future__ import annotations

import sys

import pytest

from envs import registry
from envs.base import MissingSimulatorError
from pipelines.commands import serve_env
from pipelines.core.errors import PipelineError

CURE = r"install it with: pip install 'openenv>=0.10,<0.11'"


def test_a_missing_package_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openenv", None)
    for name in ("client", "server"):
        monkeypatch.delitem(sys.modules, f"envs.openenv.{name}", raising=False)
    with pytest.raises(PipelineError, match=f"OpenEnv needs the package 'openenv.*'; {CURE}"):
        serve_env.serve("GymCards-NumberLine-v0", port=8000, sessions=1)
    with pytest.raises(MissingSimulatorError, match=f"needs the package 'openenv.*', which is not installed; {CURE}"):
        registry.make("openenv:http://127.0.0.1:8000", width=8, height=8)


def test_what_is_no_environment_is_not_served() -> None:
    with pytest.raises(PipelineError, match="did you mean GymCards-NumberLine-v0"):
        serve_env.serve("GymCards-NumberLin-v0", port=8000, sessions=1)
