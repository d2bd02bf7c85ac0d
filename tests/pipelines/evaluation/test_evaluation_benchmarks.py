"""`vldac benchmark`: what a model's name stands for, where its records lie, and what becomes of what was fetched."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.harness import registry
from benchmarks.harness.options import Options
from benchmarks.suites.balrog.suite import BalrogOptions
from pipelines.commands import cli
from pipelines.core.errors import PipelineError
from pipelines.evaluation import benchmarks
from pipelines.evaluation.benchmarks import Subject, out_of
from pipelines.tracking import benchmark_scores, fetched, lineage, runs
from pipelines.tracking.exports import CONTENT
from vldac.config import Config, parse


@pytest.mark.parametrize(
    ("text", "is_registered"),
    [
        ("models:/vldac-a/3", True),
        ("vldac-a", True),
        ("name@champion", True),
        ("Qwen/Qwen2-VL-7B-Instruct", False),
        ("here/model", False),
    ],
)
def test_a_registered_version_is_told_from_a_model_of_a_hub(text: str, is_registered: bool) -> None:
    assert benchmarks.registered(text) is is_registered


def options_of(benchmark: str, values: dict[str, Any]) -> Options:
    return registry.get(benchmark).options.model_validate(values)


def test_records_of_other_models_benchmarks_and_options_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = functools.cache(functools.partial(benchmarks._code, tmp_path, Config()))  # it reads a hundred files
    monkeypatch.setattr(benchmarks, "_code", lambda _root, _config, entry: code(entry))
    made = {
        out_of(
            tmp_path,
            Subject(model, content, ()),
            benchmark,
            registry.get(benchmark).options.model_validate(options),
            loading,
        )
        for model in ("a/b", "a-b", "../../b")
        for content in ("x", "y")  # the same number in a new database
        for benchmark in ("balrog", "vsi_bench")
        for options in ({}, {"profile": "full"})
        for loading in ({}, {"dtype": "bfloat16"})
    }
    assert len(made) == 48
    assert all(path.resolve().is_relative_to(tmp_path / ".local/runs") for path in made)


@pytest.mark.parametrize(
    "faster",
    [
        ({"batch_size": 4}, {}),
        ({"batch_size": 4}, {"threads": 0}),
        ({}, {"overwrite": True}),
        ({"tokens_at_once": 9}, {}),
    ],
)
def test_a_benchmark_resumes_with_other_options_of_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faster: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    monkeypatch.setattr(benchmarks, "_code", lambda *_: "the same")
    subject, options = Subject("a", "x", ()), BalrogOptions(profile="full")
    changed = options.model_copy(update=faster[0])
    assert out_of(tmp_path, subject, "balrog", changed, faster[1]) == out_of(tmp_path, subject, "balrog", options)


def test_records_of_other_code_lie_elsewhere(tmp_path: Path) -> None:
    code = tmp_path / "benchmarks/__main__.py"
    code.parent.mkdir()
    code.write_text("a = 1")
    before = out_of(tmp_path, Subject("a", "x", ()), "balrog", BalrogOptions())
    code.write_text("a = 2")
    assert out_of(tmp_path, Subject("a", "x", ()), "balrog", BalrogOptions()) != before


def policy(directory: Path, base: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "vldac.json").write_text(json.dumps({"adapter": True, "config": {"model": {"base": base}}}))
    return directory


def test_a_directory_of_a_policy_is_benchmarked_on_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    policy(Path("models/policy"), "tiny")
    with pytest.raises(PipelineError, match="needs the base model that was built with it; name it: --base DIR"):
        benchmarks.base_of(tmp_path, Path("models/policy"))
    Path("models/base").mkdir()
    with benchmarks.opened(tmp_path, "models/policy") as subject:
        assert subject.paths == ("--base", "models/base", "--policy", "models/policy")
        first = subject.content
    Path("models/base/config.json").write_text("{}")
    with benchmarks.opened(tmp_path, "models/policy") as subject:
        assert subject.content != first
    assert benchmarks.base_of(tmp_path, policy(Path("elsewhere/policy"), "hub/id")) == "hub/id"
    assert benchmarks.base_of(tmp_path, policy(Path("models/checkpoints/update-1"), "tiny")).endswith("models/base")
    with benchmarks.opened(tmp_path, "elsewhere/policy", base="models/base") as subject:
        assert subject.paths[1] == "models/base"
    with benchmarks.opened(tmp_path, "models/base") as subject:
        assert subject.paths == ("--base", "models/base")


def test_a_policy_says_where_code_of_the_users_own_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorded = policy(Path("models/policy"), "hub/id") / "vldac.json"
    described = json.loads(recorded.read_text())
    described["config"]["model"]["family"] = "family:Mine"
    recorded.write_text(json.dumps({**described, "config": {**described["config"], "extensions": "own/code"}}))
    started: list[dict[str, str]] = []

    def follow(*_: Any, env: dict[str, str], **__: Any) -> None:
        started.append(env)

    monkeypatch.setattr(benchmarks.repro, "follow", follow)
    monkeypatch.setattr(benchmarks, "read_json", lambda _: {})
    monkeypatch.setattr(benchmarks, "base_of", lambda *_: "hub/id")
    Path("own/code").mkdir(parents=True)
    out = set()
    for text in ("a = 1", "a = 2"):
        Path("own/code/family.py").write_text(text)
        with benchmarks.opened(tmp_path, "models/policy") as subject:
            assert subject.config is None  # the options of a benchmark are the defaults
            out.add(out_of(tmp_path, subject, "balrog", BalrogOptions()))
    assert len(out) == 2  # what other code has answered is elsewhere
    benchmarks.run_benchmark(tmp_path, subject, "balrog", print)
    assert started[0]["PYTHONPATH"].split(":")[-1] == str(tmp_path / "own/code")


def test_every_benchmark_can_be_asked_for_and_four_are_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = []

    def run_benchmark(
        _root: Path, subject: Subject, benchmark: str, _say: object, *, changes: Any, loading: Any
    ) -> dict[str, Any]:
        asked.append((benchmark, changes, loading, subject.config is not None))
        if benchmark == "vsi_bench":
            raise PipelineError("no data")
        return {}

    monkeypatch.setattr(benchmarks, "run_benchmark", run_benchmark)
    (tmp_path / "params.yaml").write_text("{}")
    assert cli.call(["benchmark", "a/b", "--benchmark", "erqa", "--profile", "full", "--params", "params.yaml"]) == 0
    assert asked == [("erqa", {"profile": "full"}, {}, True)]
    assert cli.call(["benchmark", "a/b", "--agent", "cot", "--threads", "2"]) == 1  # and the two after it were run
    assert capsys.readouterr().err.splitlines()[-1] == "error: not benchmarked: vsi_bench"
    assert [name for name, *_ in asked[1:]] == list(benchmark_scores.STAGES)
    # An option goes to the benchmarks that have it.
    assert {name: changes for name, changes, *_ in asked[1:]} == {
        name: {"agent": "cot"} if name == "balrog" else {} for name in benchmark_scores.STAGES
    }
    assert all(loading == {"threads": 2} for _, _, loading, _ in asked[1:])


def test_an_option_that_no_benchmark_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.call(["benchmark", "a/b", "--benchmark", "vsi_bench", "--agent", "cot"])
    assert "unrecognized arguments: --agent cot" in capsys.readouterr().err
    assert cli.call(["benchmark", "a/b", "--benchmark", "balrok"]) == 1
    assert "there is no benchmark 'balrok'; did you mean 'balrog'?" in capsys.readouterr().err


def test_options_of_the_command_line_win_over_those_of_the_parameters(tmp_path: Path) -> None:
    config = parse({"benchmarks": {"limit": 3, "balrog": {"agent": "cot"}}})
    subject = Subject("a", "x", (), config)
    options = benchmarks.options_of(tmp_path, subject, "balrog", {"limit": "5", "environments": ["babyai"]})
    assert options == BalrogOptions(limit=5, agent="cot", environments=("babyai",), style="terse")
    plain = benchmarks.options_of(tmp_path, Subject("a", "x", ()), "balrog", {})
    assert plain == BalrogOptions()
    with pytest.raises(PipelineError, match=r"^balrog: --limit: should be greater than or equal to 1, but is '0'$"):
        benchmarks.options_of(tmp_path, subject, "balrog", {"limit": "0"})


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registered version whose files are two empty directories."""
    made: Any = SimpleNamespace(name="n", version=1, tags={CONTENT: "abc"})
    downloads = []

    def fetch(_root: Path, _version: object, out: Path) -> None:
        downloads.append(out)
        for name in ("policy", "base"):
            (out / name).mkdir(parents=True)
        (out / "params.yaml").write_text("{}")

    monkeypatch.setattr(lineage, "fetch", fetch)
    monkeypatch.setattr(lineage, "find", lambda *_: made)
    monkeypatch.setattr(runs, "client", lambda _: None)
    made.downloads = downloads
    return made


def test_a_version_is_fetched_once_for_all_of_its_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarks, "run_benchmark", lambda *_, **_options: {})
    assert cli.call(["benchmark", "models:/n/1", "--benchmark", "balrog", "understanding"]) == 0
    assert len(version.downloads) == 1
    assert not list(tmp_path.glob(".local/fetched.*"))


def test_what_a_killed_process_has_fetched_is_removed_and_what_is_in_use_stays(tmp_path: Path, version: Any) -> None:
    program = (
        "import sys, pathlib; from pipelines.tracking import fetched, lineage\n"
        "lineage.fetch = lambda root, version, out: (out / 'policy').mkdir(parents=True)\n"
        "with fetched.fetched(pathlib.Path(sys.argv[1]), None) as directory:\n"
        "    print(directory, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        its = Path(other.stdout.readline().strip())
        with fetched.fetched(tmp_path, version) as own:
            assert (own / "policy").is_dir()
            assert (its / "policy").is_dir()
        assert not own.exists()
        os.kill(other.pid, signal.SIGKILL)
    assert its.exists()
    with fetched.fetched(tmp_path, version):
        assert not its.parent.exists()
