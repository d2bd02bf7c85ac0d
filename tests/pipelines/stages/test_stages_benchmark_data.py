"""What the benchmarks find on a machine: a stage is out of date when it changes, and nothing missing is made up."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks import __main__ as command_of_benchmarks
from benchmarks.harness import registry, section
from benchmarks.suites.balrog import tasks
from benchmarks.suites.balrog.suite import BalrogOptions
from benchmarks.suites.vsi_bench.suite import VSIBenchOptions
from pipelines.commands import run
from pipelines.core.errors import PipelineError
from pipelines.stages import benchmark as stage
from pipelines.stages import config as config_stage
from pipelines.stages import data_listing
from pipelines.stages.benchmark import options_of
from vldac.config import Config, ConfigError, parse


def config(data: Path | None, **values: object) -> Config:
    return parse({"benchmarks": {"data": None if data is None else str(data), **values}})


def test_the_stage_passes_on_what_the_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "vsi_bench").mkdir()
    values = config(tmp_path, frames=9, max_new_tokens=None, balrog={"environments": ["babyai", "nle"]})
    given = options_of(tmp_path, values, "vsi_bench")
    assert given == VSIBenchOptions(frames=9, style="terse", data=tmp_path / "vsi_bench")
    assert options_of(tmp_path, values, "balrog") == BalrogOptions(
        frames=9, style="terse", environments=("babyai", "nle")
    )
    assert options_of(tmp_path, config(Path("."), frames=9), "vsi_bench").data == tmp_path / "vsi_bench"


def test_the_command_is_handed_the_options_as_one_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def run_module(module: str, *options: object, root: Path, env: object) -> None:
        started.append([module, *map(str, options)])
        (tmp_path / "scores/trained/balrog").mkdir(parents=True)
        (tmp_path / "scores/trained/balrog/summary.json").write_text("{}")

    monkeypatch.setattr(stage, "run_module", run_module)
    monkeypatch.setattr(stage, "inputs", lambda *_: "0123")
    params = tmp_path / "config.yaml"
    params.write_text("benchmarks: {limit: 3, balrog: {agent: cot}}\ndeepspeed: {threads: 2}\n")
    assert stage.main(["balrog", "--params", str(params), "--root", str(tmp_path)]) == 0
    (command,) = started
    parsed = command_of_benchmarks.parser(registry.get("balrog")).parse_args(command[1:])
    text = parsed.options
    assert BalrogOptions.model_validate_json(text) == BalrogOptions(limit=3, agent="cot", style="terse")
    assert (parsed.dtype, parsed.threads, parsed.inputs, parsed.overwrite) == ("float32", 2, "0123", True)


def test_wrong_options_stop_before_the_first_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("benchmarks: {balrog: {agnet: cot}}\n")
    with pytest.raises(
        ConfigError, match=r"unknown key 'benchmarks.balrog.agnet'; did you mean 'benchmarks.balrog.agent'"
    ):
        config_stage.main(["--params", "params.yaml", "--root", str(tmp_path)])
    assert not (tmp_path / "config.yaml").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"benchmarks\.agent is benchmarks\.balrog\.agent now"):
        run.run(overrides=["benchmarks={agent: cot}"])


def test_config_yaml_holds_every_option_whether_it_was_written_out_or_not(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("benchmarks: published\n")
    config_stage.main(["--params", "params.yaml", "--root", str(tmp_path)])
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["benchmarks"]
    assert written == section.parse({"profile": "full"}).model_dump(mode="json")
    assert (written["data"], written["frames"], written["balrog"]["agent"]) == (None, 32, "naive")


def test_a_folder_without_data_is_an_error_and_not_a_synthetic_benchmark(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing", tmp_path):
        with pytest.raises(
            PipelineError, match=r"^benchmarks\.data: .* holds no data of a benchmark.*; put it there, or name"
        ):
            options_of(tmp_path, config(wrong), "vsi_bench")


def test_new_data_new_maps_and_new_simulators_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, maps = tmp_path / "data", tmp_path / "maps"
    (data / "vsi_bench").mkdir(parents=True)
    maps.mkdir()
    monkeypatch.setenv("BOXOBAN_MAPS", str(maps))
    values = config(data)
    assert data_listing.changed(tmp_path, values)  # nothing was written down, and DVC may have kept older listings
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
