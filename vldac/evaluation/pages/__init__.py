"""What pages about a policy are made of: HTML, style sheets and scripts, those of `shared` on each of them."""

from __future__ import annotations

from pathlib import Path

DIRECTORY = Path(__file__).parent


def text(name: str) -> str:
    """The content of a file of this folder, such as shared.css."""
    return (DIRECTORY / name).read_text(encoding="utf-8")
