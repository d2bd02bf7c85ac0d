"""What the benchmarks find on a machine: a stage is out of date when it changes, and nothing missing is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.suites.balrog import tasks
from pipelines.core.errors import PipelineError
from pipelines.stages import data_listing
from pipelines.stages.benchmark import data_flags, flags
from vldac.config import Config


def config(data: Path | None, **values: object) -> Config:
    return Config.model_validate({"benchmarks": {"data": None if data is None else str(data), **values}})


def test_the_stage_passes_on_what_the_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "vsi_bench").mkdir()
    values = config(tmp_path, frames=9, max_new_tokens=None, environments=("babyai", "nle"))
    given = flags(values, "vsi_bench")
    assert given[given.index("--frames") + 1] == "9"
    assert given[given.index("--style") + 1] == "terse"
    assert "--max-new-tokens" not in given
    assert given[-3:] == ["--environments", "babyai", "nle"]
    assert data_flags(tmp_path, values, "vsi_bench") == ["--data", str(tmp_path / "vsi_bench")]
    assert data_flags(tmp_path, values, "balrog") == []
    assert data_flags(tmp_path, config(Path("."), frames=9), "vsi_bench") == ["--data", str(tmp_path / "vsi_bench")]


def test_a_folder_without_data_is_an_error_and_not_a_synthetic_benchmark(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing", tmp_path):
        with pytest.raises(
            PipelineError, match=r"^benchmarks\.data: .* holds no data of a benchmark.*; put it there, or name"
        ):
            data_flags(tmp_path, config(wrong), "vsi_bench")


def test_new_data_new_maps_and_new_simulators_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, maps = tmp_path / "data", tmp_path / "maps"
    (data / "vsi_bench").mkdir(parents=True)
    maps.mkdir()
    monkeypatch.setenv("BOXOBAN_MAPS", str(maps))
    values = config(data)
    assert not data_listing.changed(tmp_path, values)  # nothing was written down
    data_listing.write(tmp_path, values)
    written = (tmp_path / "data/benchmarks/vsi_bench.json").read_bytes()
    assert not data_listing.changed(tmp_path, values)

    (data / "vsi_bench/a.parquet").write_bytes(b"1")
    assert data_listing.changed(tmp_path, values)
    data_listing.write(tmp_path, values)
    assert (tmp_path / "data/benchmarks/vsi_bench.json").read_bytes() != written
    assert not data_listing.changed(tmp_path, values)

    (maps / "000.txt").write_text("#")
    assert data_listing.changed(tmp_path, values)
    data_listing.write(tmp_path, values)

    monkeypatch.setattr(tasks, "missing_packages", lambda name: [] if name == "babyai" else ["x"])
    assert data_listing.changed(tmp_path, values)
