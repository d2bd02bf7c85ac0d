"""The command `vldac`: what it loads, what it passes on, and how it fails."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import vldac
from pipelines.commands import cli, pages, run, serve
from tests.pipelines.conftest import REPOSITORY

#: Packages that take seconds to import.
HEAVY = {"torch", "transformers", "deepspeed", "mlflow", "prefect", "dvc", "numpy", "gymnasium", "matplotlib"}


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines of the processes that a command would have become."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, command: commands.append(command[1:]))
    return commands


@pytest.mark.parametrize("words", [["--help"], ["models", "--help"], ["run", "--help"], ["--version"]])
def test_help_loads_no_large_library(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from pipelines.commands import cli\n"
        f"assert cli.call({words}) == 0\n"
        f"loaded = set({sorted(HEAVY)}) & sys.modules.keys()\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vldac" in done.stdout


def test_help_tells_defaults_that_mean_something_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["run", "--help"]) == 0
    assert "[default:" not in capsys.readouterr().out
    assert cli.call(["serve", "--help"]) == 0
    assert "[default: 4200]" in capsys.readouterr().out


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["--help"]) == 0
    listed = {line.split()[1] for line in capsys.readouterr().out.splitlines() if len(line.split()) > 2}
    own = {"run", "benchmark", "models", "serve", "prefect", "mlflow", "deployments", "new", "envs", "perf", "version"}
    assert listed >= own | {words[0] for words in cli.MODULES}


@pytest.mark.parametrize("words", sorted(cli.MODULES), ids=" ".join)
def test_a_module_gets_every_option_as_it_was_typed(words: tuple[str, ...], became: list[list[str]]) -> None:
    module = cli.MODULES[words]
    typed = ["--help", "--set", "train.gamma=0.9", "--seeds", "0", "1", "-x", "--out=a b", "--"]
    assert cli.call([*words, *typed]) == 0
    assert became == [["-m", module.name, *module.options, *typed]]
    assert importlib.util.find_spec(module.name) is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--help"], "usage: vldac train"),
        (["config", "--set", "env=numberline"], "id: GymCards-NumberLine-v0"),
    ],
)
def test_the_module_answers_itself(
    words: list[str],
    said: str,
    became: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert cli.call(words) == 0
    ((_, module, *arguments),) = became
    with suppress(SystemExit):  # of `--help`
        assert importlib.import_module(module).main(arguments) == 0
    assert said in capsys.readouterr().out


def test_the_command_becomes_the_process_of_the_module() -> None:
    command = [sys.executable, "-m", "vldac", "envs", "games", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: vldac envs games" in done.stdout


def test_what_is_typed_reaches_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def record(*args: Any, **named: Any) -> int:
        calls.append((*args, named))
        return 0

    monkeypatch.setattr(run, "run", record)
    typed = ["--params", "p.yaml", "--set", "seed=3", "--set", "env={preset: a, frames: 2}", "--steps", "base", "train"]
    assert cli.call(["run", *typed, "--force"]) == 0
    assert cli.call(["run"]) == 0
    assert calls == [
        ("p.yaml", ("seed=3", "env={preset: a, frames: 2}"), ("base", "train"), {"force": True}),
        ("", (), (), {"force": False}),
    ]
    plans: list[serve.Plan] = []
    monkeypatch.setattr(serve, "check", plans.append)
    monkeypatch.setattr(serve, "serve", plans.append)
    assert cli.call(["serve", "--only", "worker", "--devices", "2"]) == 0
    assert plans[0] == plans[1]
    assert (plans[0].servers, plans[0].worker, plans[0].devices, plans[0].host) == (False, True, 2, pages.HOST)
    assert (plans[0].prefect_port, plans[0].mlflow_port) == (pages.PORTS["prefect"], pages.PORTS["mlflow"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["trian"], 2, 'error: Unknown command "trian".'),
        (["run", "--stpes", "train"], 2, "error: Unknown option: --stpes. Did you mean --steps?"),
        (["serve", "--only", "both"], 2, "error: Invalid value"),
        (["serve", "--devices", "0"], 1, "error: --devices 0: at least one"),
        (["models", "rollback", "name"], 2, "error: "),
        (["benchmark", "a/b", "--benchmark", "nope"], 1, "error: there is no benchmark 'nope'; benchmarks are balrog"),
        (["envs", "check", "MiniWorld-Halway-v0"], 1, "error: unknown environment 'MiniWorld-Halway-v0'; did you mean"),
        (["run", "--set", "train.gama=1"], 1, "error: params.yaml: "),
    ],
)
def test_a_mistake_is_one_line(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(words) == code
    told = capsys.readouterr()
    assert told.err.startswith(said)
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_the_installed_command_runs_the_checkout_that_the_user_stands_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, became: list[list[str]]
) -> None:
    monkeypatch.setattr(cli, "call", len)
    monkeypatch.chdir(REPOSITORY)
    assert cli.main(["run", "--force"]) == 2
    assert became == []  # it is this one
    monkeypatch.chdir(tmp_path)
    cli.main(["run"])
    assert became == []  # no checkout at all
    (tmp_path / "pipelines/commands").mkdir(parents=True)
    (tmp_path / "pipelines/commands/cli.py").touch()
    cli.main(["run", "--force"])
    assert became == [["-m", "vldac", "run", "--force"]]


def test_environments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["envs", "list"]) == 0
    assert "MiniWorld-Hallway-v0" in capsys.readouterr().out.splitlines()
    assert cli.call(["envs", "list", "--presets"]) == 0
    assert "numberline" in capsys.readouterr().out.splitlines()


def test_the_package_offers_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(vldac.__all__) == {*vldac._EXPORTS, "__version__"}
    for name in vldac.__all__:
        assert getattr(vldac, name) is not None
    assert set(vldac.__all__) <= set(dir(vldac))
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = vldac.trian
    config = vldac.load_config(REPOSITORY / "params.yaml", ["env=numberline"])
    env = vldac.make(config.env.id, **config.env.make_options)
    assert env.reset(seed=0)[0]["frames"].shape == (1, 64, 64, 3)


def test_importing_the_package_loads_no_library_and_sets_what_libraries_read() -> None:
    code = (
        "import sys, os, vldac\n"
        f"loaded = (set({sorted(HEAVY)}) | {{'pydantic', 'yaml'}}) & sys.modules.keys()\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_is_one_line_whatever_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("envs.registry.registered", interrupted)
    assert cli.call(["envs", "list"]) == 130
    assert capsys.readouterr().err == "error: interrupted; the same command resumes where this one stopped\n"
