from __future__ import annotations

import pytest

from envs.fonts import fit_font


@pytest.mark.parametrize(
    ("text", "width", "height"), [("10", 20, 30), ("Target: 4", 60, 12), ("J", 200, 18), ("+", 9, 9)]
)
def test_text_is_as_large_as_its_place_allows(text: str, width: int, height: int) -> None:
    def size(font: object) -> tuple[float, float]:
        left, top, right, bottom = font.getbbox(text)  # type: ignore[attr-defined]  # of both kinds of font
        return right - left, bottom - top

    found = fit_font(text, width, height)
    wide, high = size(found)
    assert wide <= width
    assert high <= height
    larger = found.font_variant(size=found.size + 1)  # type: ignore[union-attr]  # Pillow was built with FreeType
    assert size(larger)[0] > width or size(larger)[1] > height
