"""A benchmark is one declaration, whether it is in the project, in a module, or in an installed package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pydantic import Field

from benchmarks import __main__ as command
from benchmarks import suites
from benchmarks.harness import registry, section
from benchmarks.harness.options import Options
from benchmarks.harness.records import OtherBenchmarkError
from benchmarks.harness.registry import register
from benchmarks.report import command as report_command
from benchmarks.report.data import ReportError

REPOSITORY = Path(__file__).parents[3]
OUTSIDE = '''
"""Whether a model says the word it is asked for: a benchmark that is not of the project, in one file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from benchmarks.harness.registry import register
from benchmarks.harness.task import Message, Options, Question, QuestionBenchmark, Scored


class EchoOptions(Options):
    word: str = Field(default="left", min_length=1, description="that the model is asked for")
    shades: tuple[int, ...] = Field(default=(0, 255), description="of the pictures, one question each")


class Echo(QuestionBenchmark):
    name, title = "echo", "Echo"
    synthetic = True
    max_new_tokens = 8
    options: EchoOptions

    def questions(self) -> Sequence[Question]:
        return [
            Question(str(shade), "say", (f"shade {shade}",), lambda shade=shade: self._ask(shade))
            for shade in self.options.shades[: self.options.limit]
        ]

    def score(self, question: Question, text: str) -> Scored:
        return Scored(float(self.options.word in text), text or None)

    def _ask(self, shade: int) -> tuple[Message, ...]:
        return (Message("user", (np.full((32, 32, 3), shade, np.uint8), f"Say {self.options.word}.")),)


register("echo", "Echo", Echo, EchoOptions)
'''


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What this test registers is unknown to the others."""
    registry.entries()
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    yield
    for name in [name for name in sys.modules if "outside_" in name]:
        del sys.modules[name]


@pytest.mark.usefixtures("registered")
def test_a_benchmark_from_outside_runs_with_an_option_of_its_own_and_is_reported(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("outside_echo.py").write_text(OUTSIDE)
    start = ["--benchmark", "outside_echo:Echo", "--base", str(tiny_base), "--min-pixels", "256"]
    few = ["--shades", "0", "128", "255", "--limit", "2"]

    assert command.main([*start, *few, "--word", "left", "--out", "one/echo"]) == 0
    assert "Echo (synthetic), 2 records" in capsys.readouterr().out
    summary = json.loads(Path("one/echo/summary.json").read_text())
    assert (summary["benchmark"], summary["count"], summary["identity"]["word"]) == ("echo", 2, "left")
    assert summary["identity"]["shades"] == [0, 128, 255]
    assert not {"batch_size", "tokens_at_once"} & summary["identity"].keys()

    # The option decides the records, and how many are answered at once does not.
    with pytest.raises(OtherBenchmarkError, match=r"holds another benchmark \(it differs in limit, shades, word\)"):
        command.main([*start, "--word", "right", "--out", "one/echo"])
    records = Path("one/echo/records.jsonl").read_bytes()
    assert command.main([*start, *few, "--batch-size", "1", "--out", "one/echo"]) == 0
    assert Path("one/echo/records.jsonl").read_bytes() == records
    handed_over = json.dumps({"word": "right", "limit": 2, "shades": [0, 128, 255], "min_pixels": 256})
    assert command.main([*start, "--options", handed_over, "--out", "other/echo"]) == 0
    assert command.main([*start, "--options", handed_over, "--word", "left", "--out", "two/echo"]) == 0

    assert report_command.main(["one", "two", "--out", "report"]) == 0
    report = json.loads(Path("report/report.json").read_text())["benchmarks"]["echo"]
    assert (report["title"], report["overall"]["difference"]["mean"]) == ("Echo", 0.0)
    with pytest.raises(ReportError, match="did not run the same echo: word 'left' and 'right'"):
        report_command.main(["one", "other", "--out", "report"])

    capsys.readouterr()
    with pytest.raises(SystemExit):
        command.main(["--benchmark", "outside_echo:Echo", "--help"])
    assert "--word WORD" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main([*start, "--word", "", "--out", "wrong"])
    assert "--word: String should have at least 1 character" in capsys.readouterr().err
    assert not Path("wrong").exists()


@pytest.mark.usefixtures("registered")
def test_what_is_named_must_be_there_and_register_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_plain.py").write_text("class Plain: pass\n")
    (tmp_path / "outside_broken.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(
        registry.UnknownBenchmarkError, match="outside_plain does not register outside_plain:Plain; call"
    ):
        registry.get("outside_plain:Plain")
    with pytest.raises(registry.UnknownBenchmarkError, match="no module 'outside_absent'; start in its directory, or"):
        registry.get("outside_absent:Plain")
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        registry.get("outside_broken:Broken")


@pytest.mark.usefixtures("registered")
def test_an_installed_package_adds_benchmarks_and_a_broken_one_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_echo.py").write_text(OUTSIDE)
    points = [EntryPoint("x", module, registry.GROUP) for module in ("outside_absent", "outside_echo")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
    registry._discover.cache_clear()
    with pytest.warns(UserWarning, match="the benchmark outside_absent cannot be used"):
        assert "echo" in registry.names()
    assert "echo" not in registry.names(default=True)
    parsed = section.parse({"limit": 3, "echo": {"word": "up"}})
    options = parsed.options("echo", style="terse")
    assert (options.limit, options.style, options.model_dump()["word"]) == (3, "terse", "up")


@pytest.mark.usefixtures("registered")
def test_a_file_among_the_suites_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_echo.py").write_text(OUTSIDE)
    monkeypatch.setattr(suites, "__path__", [*suites.__path__, str(tmp_path)])
    registry._discover.cache_clear()
    assert registry.get("echo").module == "benchmarks.suites.outside_echo"
    assert registry.names()[:4] == registry.names(default=True)


@pytest.mark.usefixtures("registered")
def test_what_cannot_be_registered_is_refused() -> None:
    class Twice(Options):
        frames: int = Field(default=1, description="shared")

    assert register("own", "Own", "a.module:Own") == register("own", "Own", "a.module:Own")
    for refused, message in (
        (("own", "Own", "other.module:Own"), "own is registered as a.module:Own; give other.module:Own another name"),
        (("Own-1", "Own", "a:B"), "'Own-1' cannot name a benchmark"),
        (("limit", "Own", "a:B"), "'limit' cannot name a benchmark"),
        (("mine", "Own", "a.B"), "must be a class or `module:Class`, not 'a.B'"),
        (("mine", "Own", "a:B", Twice), "declare 'frames', which all benchmarks share"),
    ):
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            register(*refused)
    with pytest.raises(ValueError, match="mine cannot be one of the pipeline's own benchmarks"):
        register("mine", "Own", "a:B", default=True)


def test_a_benchmark_takes_its_own_options_and_no_others() -> None:
    with pytest.raises(TypeError, match="balrog takes BalrogOptions, not Options"):
        registry.make("balrog", Options())


def test_listing_the_benchmarks_and_their_options_imports_no_model_and_no_simulator() -> None:
    heavy = "torch transformers gymnasium nle minihack minigrid crafter textworld av pyarrow PIL"
    code = (
        "import sys\n"
        "from benchmarks.harness import registry, section\n"
        "section.parse({'balrog': {'agent': 'cot'}})\n"
        "assert len(registry.names()) >= 7\n"
        f"loaded = set('{heavy}'.split()) & sys.modules.keys()\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", registry.names())
def test_every_option_has_a_description_and_the_class_of_every_entry_is_of_its_name(name: str) -> None:
    entry = registry.get(name)
    assert all(field.description for field in entry.options.model_fields.values())
    benchmark = registry.attribute(entry.target)
    assert (benchmark.name, benchmark.title) == (entry.name, entry.title)
