"""What README and docs point to is there: files, commands, Make targets, parameters."""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.harness import registry as harness
from pipelines.commands import cli
from vldac.algorithms.registry import ALGORITHMS
from vldac.engines.registry import ENGINES
from vldac.models.registry import FAMILIES

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "extensions").glob("*.md")]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_in_backquotes_exist(page: Path) -> None:
    """Paths of the repository; what runs write, and the changelog's old names, are left out."""
    if page.name == "CHANGELOG.md":
        pytest.skip("it names what has gone")
    named = re.findall(
        r"`((?:vldac|envs|benchmarks|pipelines|tests|perf|conf|docs|scripts)/[\w/.-]+\.\w+)`", page.read_text()
    )
    assert [name for name in named if not (REPOSITORY / name).exists() and "/my_" not in name] == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    used = {
        target
        for page in PAGES
        for target in re.findall(r"`make ([a-z]+)", page.read_text())
        if page.name != "CHANGELOG.md"
    }
    assert used <= targets


def test_commands_exist() -> None:
    code = "from pipelines.commands import cli; print(*sorted(cli.app))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    commands = set(printed.stdout.split())
    for page in PAGES:
        lines = [line.strip() for line in page.read_text().splitlines() if line.startswith("    vldac ")]
        used = {line.split()[1] for line in lines} | set(re.findall(r"`vldac ([a-z-]+)", page.read_text()))
        assert used <= commands, page


#: Programs whose own parsers are asked; the others of the docs need a server, a cluster or a download to be read.
PROGRAMS = ("vldac", "python", "make", "dvc", "deepspeed")


def commands() -> list[tuple[str, str]]:
    """Every command of the docs, with the page that it is on: lines of code blocks, and those in backquotes.

    In a sentence, a name without options stands for the command as such; `echo` is a benchmark that a reader writes.
    """
    found = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [match.strip() for match in re.findall(r"^    (.*)$", text, re.M)]
        lines += [match for match in re.findall(r"`([^`\n]+)`", text) if " --" in match and "echo" not in match]
        for line in lines:
            for one in line.removeprefix("$ ").split(" && "):
                found += [(page.name, one)] if one.split(" ")[0] in PROGRAMS else []
    return found


class ParsedError(Exception):
    """Raised in the place of what a command does once its options are read."""


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_of_the_docs_is_read_by_its_own_parser(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *tokens = shlex.split(command, comments=True)
    if program == "make":
        given = next((token.removeprefix("ARGS=") for token in tokens if token.startswith("ARGS=")), None)
        if given is None or tokens[0] not in {"run", "serve"}:
            return  # its target: see above
        program, tokens = "vldac", [tokens[0], *shlex.split(given)]
    read = argparse.ArgumentParser.parse_args

    def run(module: str, arguments: Sequence[str]) -> None:
        """As `python -m` does, until the options are read."""
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    def stop(parser: argparse.ArgumentParser, arguments: Any = None, namespace: Any = None) -> None:
        read(parser, arguments, namespace)
        raise ParsedError

    if program == "dvc":
        from dvc.cli.parser import get_main_parser  # noqa: PLC0415  # seconds to import, as the others below

        get_main_parser().parse_args(tokens)
    elif program == "deepspeed":
        from deepspeed.launcher.runner import parse_args  # noqa: PLC0415

        parsed = parse_args(tokens)
        assert parsed.module
        with pytest.raises(ParsedError):  # the launcher of each machine adds the rank
            run(parsed.user_script, ["--local_rank=0", *parsed.user_args])
    elif program == "python":
        if tokens[0] == "-c":
            compile(tokens[1], "docs", "exec")
            return
        assert tokens[0] == "-m"
        if tokens[1] not in {"pytest", "spacy"} and tokens[2:]:
            with pytest.raises((ParsedError, SystemExit)) as ended:
                run(tokens[1], tokens[2:])
            assert ended.type is ParsedError or "--help" in tokens
    else:
        _, bound, _ = cli.app.parse_args(tokens, exit_on_error=False, print_error=False)
        words = next((tuple(tokens[:n]) for n in (1, 2) if tuple(tokens[:n]) in cli.MODULES), None)
        if words is not None:
            module = cli.MODULES[words]
            with pytest.raises(ParsedError):
                run(module.name, [*module.options, *tokens[len(words) :]])
        elif tokens[0] == "benchmark":
            monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
            with pytest.raises(ParsedError):
                cli.benchmark(*bound.args, **bound.kwargs)


def test_the_notebook_is_ten_cells_without_what_they_printed() -> None:
    page = json.loads((REPOSITORY / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in page["cells"] if cell["cell_type"] == "code"]
    assert len(page["cells"]) == 10
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    for cell in code:
        compile("".join(cell["source"]), "notebook", "exec")


def test_params_yaml_and_presets_are_plain_yaml() -> None:
    for path in [REPOSITORY / "params.yaml", *(REPOSITORY / "conf").rglob("*.yaml")]:
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


def test_groups_of_entry_points_are_those_that_are_read() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    read = {registry._group for registry in (ALGORITHMS, ENGINES, FAMILIES)} | {harness.GROUP}
    assert set(re.findall(r"`(vldac\.(?:algorithms|families|engines|benchmarks))`", page)) == read


@pytest.mark.slow
def test_the_site_is_built_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    assert built.returncode == 0, built.stderr  # a page that is not in the navigation, or a dead link, is an error
    for page in ("index", "faq", "changelog", "reference/vldac.train", "reference/envs.base"):
        text = (tmp_path / "site" / f"{page}.html").read_text(encoding="utf-8")
        assert (
            re.findall(r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//[^"]*"|<link[^>]*rel="stylesheet"[^>]*//', text)
            == []
        )
