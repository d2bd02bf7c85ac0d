from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_cases import by_task, made, write

from benchmarks.harness.records import Record
from benchmarks.report import command
from benchmarks.report.page import MAX_ANSWER

HOSTILE = (
    "</pre></article><script>alert(1)</script><img src=x onerror='alert(2)'>\x00\x1b[31m\r\u202egnp\udc80\u2066"
    + "W" * 9999
)


class Elements(HTMLParser):
    """The elements of a page, without the marks that `shown` sets."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, Any]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if dict(attrs).get("class") not in ("control", "cut"):
            self.found.append((tag, attrs))


def page_of(home: Path, text: str) -> str:
    for name, score in (("before", 0), ("after", 1)):
        records = made("a", [score] * 3, prompt=text, answer=text, parsed=text, images=(text,))
        write(home / name, [*records, Record(text, "a", text, (), text, None, score)], title=text[:60])
    command.write(home / "before", home / "after", home / "out", (text, text))
    return (home / "out" / "report.html").read_text(encoding="utf-8")


def test_hostile_texts_stay_in_their_place(tmp_path: Path) -> None:
    html, harmless = page_of(tmp_path / "hostile", HOSTILE), page_of(tmp_path / "harmless", "x")
    assert Elements(html).found == Elements(harmless).found
    assert all(character.isprintable() or character == "\n" for character in html)
    assert "\\x00" in html
    assert "\\u202e" in html
    assert "\\udc80" in html
    assert unescape(html).count("<script>alert(1)</script>") > 10
    assert f"{len(HOSTILE) - MAX_ANSWER:,} more characters" in html
    assert len(html) < 100_000


def test_the_page_needs_nothing_else_and_allows_nothing_else(tmp_path: Path) -> None:
    html = page_of(tmp_path, "x")
    tags = {tag for tag, _ in Elements(html).found}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    names = {name for _, attributes in Elements(html).found for name, _ in attributes}
    assert not names & {"src", "href", "style", "onclick", "onerror"}
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}';" in unescape(html)


def test_the_figure_has_its_size_and_shows_something(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("before", "after"):
        for benchmark in ("understanding", "vsi_bench"):
            write(
                tmp_path / name,
                made("a", rng.random(20)),
                benchmark=benchmark,
                title="$\\frac{1$ \u4e2d",
                synthetic=True,
            )
    write(tmp_path / "after", made("a", [0.5]), benchmark="balrog", title="BALROG")
    for out in ("out", "again"):
        command.write(tmp_path / "before", tmp_path / "after", tmp_path / out, ("$x$", "<new>"))
    files = [(tmp_path / out / "report.png").read_bytes() for out in ("out", "again")]
    assert files[0] == files[1]
    with Image.open(tmp_path / "out" / "report.png") as image:
        assert image.size == (1350, int(150 * (1.55 + 0.62 * 3)))
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert 0.8 < (pixels == 255).all(1).mean() < 0.99
    for colour in ((31, 111, 180), (138, 143, 152)):  # of the two models
        assert (pixels == colour).all(1).sum() > 200


def test_the_paper_stands_beside_the_same_task_with_a_warning_where_ours_is_not_its_data(tmp_path: Path) -> None:
    for name in ("before", "after"):
        write(
            tmp_path / "made" / name,
            made("route_planning", [0, 1]),
            benchmark="vsi_bench",
            title="VSI-Bench",
            synthetic=True,
            identity={"profile": "short"},
        )
        write(tmp_path / "real" / name, made("route_planning", [0, 1]), benchmark="vsi_bench", title="VSI-Bench")
    pages = {}
    for kind in ("made", "real"):
        home = tmp_path / kind
        command.write(home / "before", home / "after", home / "out", ("old", "new"))
        pages[kind] = (home / "out" / "report.html").read_text()
        assert "30.93 → 32.47 (+1.54)" in pages[kind]
        assert "33.05" not in pages[kind]
        assert "are the published ones in other words" in pages[kind]
    assert "Ours is synthetic and short: the two do not compare." in pages["made"]
    assert "do not compare." not in pages["real"]
    # In the made one beside every score: the benchmark above, the task, the whole, the paper's line and the heading.
    assert pages["made"].count('<span class="tag">synthetic</span>') == 5 + 1
    assert pages["real"].count('<span class="tag">synthetic</span>') == 1


def test_an_error_that_one_record_leaves_unknown_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("before", "after"):
        write(tmp_path / name, [*made("a", [0, 1] * 3), *made("b", [name == "after"])])
    command.main([str(tmp_path / "before"), str(tmp_path / "after"), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.startswith("General understanding  +50.00 [unknown], n=7\n")
    html = (tmp_path / "out" / "report.html").read_text()
    assert '100.00 <span class="error">± unknown</span>' in html
    assert "100.00 [unknown]" in html
    assert "▲</b></td>" not in html
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())["benchmarks"]["understanding"]["overall"]
    assert (numbers["after"]["standard_error"], numbers["difference"]["interval"]) == (None, None)
    assert not numbers["difference"]["leaves_out_0"]


def test_metrics_and_chance_are_shown_where_a_summary_has_them(tmp_path: Path) -> None:
    def summarize(records: Sequence[Record]) -> dict[str, Any]:
        low = 10.0 * records[0].score
        metrics = {"chance": 25.0, "rouge_1": {"score": low, "standard_error": 1.0, "count": 2}}
        return by_task(records) | {"tasks": {"a": by_task(records)["tasks"]["a"] | {"metrics": metrics}}}

    write(tmp_path / "before", made("a", [0, 1]), summarize=summarize)
    write(tmp_path / "after", made("a", [1, 1]), summarize=summarize)
    command.write(tmp_path / "before", tmp_path / "after", tmp_path / "out", ("old", "new"))
    html = (tmp_path / "out" / "report.html").read_text()
    assert '<span class="metrics">chance 25.00 · rouge_1 0.00 → 10.00</span>' in html
