"""A base of a mixture of environments is built once, whatever the run learns in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.stages import base

MIXTURE = [{"id": "GymCards-NumberLine-v0"}]


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The module runs that the stage has asked for."""
    asked: list[str] = []

    def run_module(module: str, *arguments: Any, **_: Any) -> None:
        asked.append(module)
        out, metrics = Path(arguments[3]), Path(arguments[5])
        out.mkdir()
        (out / "model.safetensors").write_text(str(len(asked)))
        metrics.write_text(json.dumps({"built": len(asked)}))

    monkeypatch.setattr(base, "run_module", run_module)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "data/code").mkdir(parents=True)
    (tmp_path / "data/code/base.json").write_text("{}")
    return asked


def repro(root: Path, **values: Any) -> str:
    """Runs the stage as DVC does, with its outputs removed; returns what the weights' file holds."""
    (root / "config.yaml").write_text(yaml.safe_dump(values))
    for path in (root / "models/base/model.safetensors", root / "metrics/base.json"):
        path.unlink(missing_ok=True)
    if (root / "models/base").exists():
        (root / "models/base").rmdir()
    assert base.main(["--root", str(root)]) == 0
    metrics = json.loads((root / "metrics/base.json").read_text())
    assert str(metrics["built"]) == (root / "models/base/model.safetensors").read_text()
    return str(metrics["built"])


def test_a_mixture_is_built_once_for_all_environments(built: list[str], tmp_path: Path) -> None:
    line, cards = {"id": "GymCards-NumberLine-v0"}, {"id": "GymCards-EZPoints-v0"}
    assert repro(tmp_path, env=line, warm_start={"mixture": MIXTURE}) == "1"
    assert repro(tmp_path, env=cards, warm_start={"mixture": MIXTURE}) == "1"
    assert repro(tmp_path, env=cards, warm_start={"mixture": MIXTURE, "updates": 7}) == "2"
    (tmp_path / "data/code/base.json").write_text('{"vldac/warm_start.py": "edited"}')
    assert repro(tmp_path, env=cards, warm_start={"mixture": MIXTURE}) == "3"
    assert built == ["vldac.warm_start"] * 3


def test_a_base_of_one_environment_is_built_by_its_stage(built: list[str], tmp_path: Path) -> None:
    assert [repro(tmp_path, env={"id": "GymCards-NumberLine-v0"}) for _ in range(2)] == ["1", "2"]
    assert not (tmp_path / ".local/bases").exists()
