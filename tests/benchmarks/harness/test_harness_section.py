"""The section `benchmarks` of a params file: every option in its place, and wrong ones named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import __main__ as command
from benchmarks.harness import registry, section
from benchmarks.harness.options import Options
from benchmarks.suites.balrog.suite import BalrogOptions
from benchmarks.suites.vsi_bench.suite import VSIBenchOptions
from vldac.config import ConfigError, load

REPOSITORY = Path(__file__).parents[3]


def test_the_defaults_of_the_section_are_those_of_the_classes() -> None:
    parsed = section.parse({})
    for name, entry in registry.entries().items():
        assert parsed.options(name, style="full") == entry.options()
    published = Options()
    assert (published.frames, published.max_pixels, published.min_pixels) == (32, 200_704, 3_136)
    assert (published.batch_size, published.max_new_tokens, published.profile) == (16, None, "short")


def test_shared_options_reach_every_benchmark_and_own_ones_their_own() -> None:
    values = {"frames": 9, "data": "d", "balrog": {"environments": ["babyai"]}, "vsi_bench": {"parser": "lmms-eval"}}
    parsed = section.parse(values)
    assert parsed.data == Path("d")
    balrog = parsed.options("balrog", style="terse")
    assert balrog == BalrogOptions(frames=9, environments=("babyai",), style="terse")
    vsi_bench = parsed.options("vsi_bench", style="full", data=Path("d/vsi_bench"))
    assert vsi_bench == VSIBenchOptions(frames=9, parser="lmms-eval", data=Path("d/vsi_bench"))
    assert VSIBenchOptions.model_validate_json(vsi_bench.model_dump_json()) == vsi_bench
    other: Any = parsed.options("visual_web_bench", style="full")
    assert other.parser == "original"


def test_a_benchmarks_data_is_a_folder_of_its_own_in_the_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "d/vsi_bench").mkdir(parents=True)
    parsed = section.parse({"data": "d"})
    assert parsed.folder_of("vsi_bench", tmp_path) == tmp_path / "d/vsi_bench"
    assert parsed.folder_of("balrog", tmp_path) is None
    assert section.parse({}).folder_of("vsi_bench", tmp_path) is None
    with pytest.raises(ConfigError, match=r"benchmarks\.data: .*nowhere holds no data of a benchmark"):
        section.parse({"data": "nowhere"}).folder_of("vsi_bench", tmp_path)


def test_a_params_file_gives_the_options_of_a_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def options(*arguments: str) -> Options:
        entry = registry.get("vsi_bench")
        made = command.parser(entry)
        parsed = made.parse_args(["--benchmark", "vsi_bench", "--base", "b", "--out", "o", *arguments])
        return command.options_of(entry, made, parsed, load(parsed.params))

    monkeypatch.chdir(tmp_path)
    values = {"env": {"prompt": "full"}, "benchmarks": {"frames": 9, "vsi_bench": {"parser": "lmms-eval"}, "data": "d"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "d/vsi_bench").mkdir(parents=True)
    found = options("--params", "mine.yaml", "--limit", "3")
    expected = VSIBenchOptions(frames=9, parser="lmms-eval", data=Path("d/vsi_bench"), style="full", limit=3)
    assert found == expected
    assert options("--params", "mine.yaml", "--frames", "4") == VSIBenchOptions(
        frames=4, parser="lmms-eval", data=Path("d/vsi_bench"), style="full"
    )
    with pytest.raises(SystemExit):
        options("--params", "mine.yaml", "--options", "{}")
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"frame": 9}, "unknown key 'benchmarks.frame'; did you mean 'benchmarks.frames'?"),
        ({"balrog": {"agnt": "cot"}}, "unknown key 'benchmarks.balrog.agnt'; did you mean 'benchmarks.balrog.agent'?"),
        ({"balrok": {}}, "unknown key 'benchmarks.balrok'; did you mean 'benchmarks.balrog'?"),
        ({"vsi_bench": {"frames": 9}}, "unknown key 'benchmarks.vsi_bench.frames'; did you mean 'benchmarks.frames'?"),
        ({"agent": "cot"}, "benchmarks.agent is benchmarks.balrog.agent now"),
        ({"environments": []}, "benchmarks.environments is benchmarks.balrog.environments now"),
        (
            {"parser": "original"},
            "benchmarks.parser is benchmarks.vsi_bench.parser and benchmarks.visual_web_bench.parser now",
        ),
        ({"style": "full"}, "unknown key 'benchmarks.style'"),
        ({"frames": "9"}, "benchmarks.frames: should be a valid integer, but is '9'"),
        ({"frames": True}, "benchmarks.frames: should be a valid integer, but is True"),
        ({"frames": 257}, "benchmarks.frames: should be less than or equal to 256, but is 257"),
        ({"profile": "long"}, "benchmarks.profile: should be 'short' or 'full', but is 'long'"),
        ({"min_pixels": 9, "max_pixels": 8}, "benchmarks: min_pixels 9 exceeds max_pixels 8; lower it"),
        ({"balrog": {"agent": "chain"}}, "benchmarks.balrog.agent: should be 'naive' or 'cot', but is 'chain'"),
        (
            {"balrog": {"environments": ["babyia"]}},
            "benchmarks.balrog.environments: BALROG has no environment 'babyia'; choose from babyai",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_in_one_line_with_its_key(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section.parse(values)
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        section.parse({"frames": 0, "balrog": {"agent": "x"}, "limit": 0})
    assert len(str(caught.value).splitlines()) == 3


def test_the_sizes_of_params_yaml_are_for_a_laptop_and_the_preset_is_the_published_protocol() -> None:
    written = section.parse(yaml.safe_load((REPOSITORY / "params.yaml").read_text())["benchmarks"])
    assert (written.profile, written.frames, written.max_pixels, written.min_pixels) == ("short", 8, 50_176, 1_024)
    preset = section.parse(yaml.safe_load((REPOSITORY / "conf/benchmarks/published.yaml").read_text()))
    assert preset.model_dump() == section.parse({"profile": "full"}).model_dump()


def test_options_of_speed_decide_no_record_and_all_others_do() -> None:
    assert BalrogOptions(batch_size=3, tokens_at_once=9).deciding() == BalrogOptions().deciding()
    assert BalrogOptions(agent="cot").deciding() != BalrogOptions().deciding()
    everything = set(BalrogOptions.model_fields)
    assert BalrogOptions().deciding().keys() == everything - {"batch_size", "tokens_at_once"}
