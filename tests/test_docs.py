"""What README and docs point to is there: files, commands, Make targets, parameters."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def test_params_yaml_and_presets_are_plain_yaml() -> None:
    for path in [REPOSITORY / "params.yaml", *(REPOSITORY / "conf").rglob("*.yaml")]:
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
