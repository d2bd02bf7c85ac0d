"""Hooks of MkDocs: what the site has beside the pages in docs/.

The README is its first page, the changelog its last. Links to files of the repository, which a built site does not
have, become their names. Each public module has a page of reference, from its docstrings.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PACKAGES = ("vldac", "envs", "benchmarks", "pipelines")
#: Pages that are made here, by their source in the repository.
MADE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Adds the reference to the navigation."""
    pages = {package: [{module: _page(module)} for module in modules(package)] for package in PACKAGES}
    config.nav.append({"Reference": [{package: found} for package, found in pages.items()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made of other files."""
    for source, page in MADE.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    for package in PACKAGES:
        for module in modules(package):
            files.append(File.generated(config, _page(module), content=f"::: {module}\n"))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Keeps the links that lead to pages of the site, and writes the others as names."""
    known = {file.src_uri for file in files}

    def replaced(link: re.Match[str]) -> str:
        words, (target, _, anchor) = link[1], link[2].partition("#")
        if not target or "://" in target or target in known:
            return link[0]
        made = MADE.get(target.removeprefix("../"))
        if made is not None:
            return f"[{words}]({made}{'#' + anchor if anchor else ''})"
        return words if "`" in words else f"`{words}`"

    return markdown if page.file.src_uri.startswith("reference/") else _LINK.sub(replaced, markdown)


def modules(package: str) -> list[str]:
    """The public modules of a package, by name."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] not in {"__init__", "__main__"} and not any(part.startswith("_") for part in parts):
            found.append(".".join(parts))
    return found


def _page(module: str) -> str:
    return f"reference/{module}.md"
