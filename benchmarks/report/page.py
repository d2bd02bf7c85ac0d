"""The comparison of two models as one page of HTML that needs no other file, no script and no network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from benchmarks.harness.records import Record
from benchmarks.report.data import MAX_NAME, Scores
from benchmarks.report.differences import Change, Comparison, Row
from benchmarks.report.published import Published
from benchmarks.report.text import interval, shown, signed, whisker
from vldac.evaluation.statistics import LEAST_OF_PART, LEAST_RECORDS

#: Characters that are shown of a record's prompt, of an answer, and of whatever is short.
MAX_PROMPT, MAX_ANSWER, MAX_SHORT = 2000, 2000, 200
_TEMPLATES = Path(__file__).parent / "templates"


def page(comparisons: Sequence[Comparison], names: tuple[str, str], notes: Sequence[str] = ()) -> str:
    """The whole report as one HTML document.

    Args:
        comparisons: in the order in which they are shown.
        names: of the two models.
        notes: sentences about the report as a whole, such as which benchmarks are missing.
    """
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    before, after = (shown(name, MAX_NAME) for name in names)
    return Template((_TEMPLATES / "report.html").read_text(encoding="utf-8")).substitute(
        # Nothing but this very style sheet is ever used: not even what an answer might smuggle in.
        policy=f"default-src 'none'; style-src 'sha256-{_sha256(style)}'; base-uri 'none'; form-action 'none'",
        style=style,
        before=before,
        after=after,
        least=LEAST_RECORDS,
        least_of_part=LEAST_OF_PART,
        notes=_notes(notes),
        overview=_table([(comparison.overall, comparison) for comparison in comparisons], before, after, "benchmark"),
        benchmarks="\n".join(_section(comparison, before, after) for comparison in comparisons),
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _section(comparison: Comparison, before: str, after: str) -> str:
    rows = [(row, comparison) for row in [*comparison.tasks, comparison.overall]]
    return f"""<section>
<h2>{shown(comparison.title, MAX_NAME)}{_tags(comparison)}</h2>
{_notes(comparison.notes)}
{_table(rows, before, after, "task")}
{_published(comparison)}
{_changes(comparison, before, after)}
{_options(comparison, before, after)}
</section>"""


def _notes(notes: Iterable[str]) -> str:
    return "\n".join(f'<p class="note">{shown(note, 1000)}</p>' for note in notes)


def _tags(comparison: Comparison) -> str:
    words = (("synthetic", comparison.synthetic), ("short", comparison.short))
    return "".join(f' <span class="tag">{word}</span>' for word, holds in words if holds)


def _table(rows: Sequence[tuple[Row, Comparison]], before: str, after: str, what: str) -> str:
    reach = _reach([row for row, _ in rows])
    lines = "\n".join(_line(row, comparison, reach, what) for row, comparison in rows)
    axis = f'<span class="axis"><span>−{reach:g}</span><span>0</span><span>+{reach:g}</span></span>'
    return f"""<div class="wide"><table>
<thead><tr><th scope="col">{what}</th><th scope="col" class="number">{before}</th>
<th scope="col" class="number">{after}</th><th scope="col" class="number">difference [95% interval]</th>
<th scope="col">{axis}</th><th scope="col" class="number">n</th></tr></thead>
<tbody>
{lines}
</tbody></table></div>"""


def _reach(rows: Iterable[Row]) -> float:
    """How far the pictures of a table reach to both sides: the next of 1, 2, 5, 10, ... above all intervals."""
    found = [row.difference for row in rows if row.difference]
    most = max((abs(end) for one in found for end in one.interval or (one.mean,)), default=1.0)
    magnitude = 10.0 ** math.floor(math.log10(max(most, 1.0)))
    return next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= most)


def _line(row: Row, comparison: Comparison, reach: float, what: str) -> str:
    difference = row.difference
    kind = f"level{row.level}" + (" clear" if difference and difference.clear else "")
    name = "overall" if row.level == 0 and what == "task" else row.name
    if difference is None:
        cells = '<td class="number missing">not on both sides</td><td></td><td class="number">–</td>'
    else:
        mark = ""
        if difference.clear:
            mark = f' <b class="mark">{"▲" if difference.mean > 0 else "▼"}</b>'
        cells = (
            f'<td class="number">{interval(difference)}{mark}</td><td>{whisker(difference, reach)}</td>'
            f'<td class="number">{difference.count}</td>'
        )
    return (
        f'<tr class="{kind}"><th scope="row">{shown(name, MAX_NAME)}{_tags(comparison)}{_metrics(row)}</th>'
        f"{_score(row.before)}{_score(row.after)}{cells}</tr>"
    )


def _score(scores: Scores | None) -> str:
    if scores is None:
        return '<td class="number missing">not run</td>'
    error = "unknown" if scores.standard_error is None else f"{scores.standard_error:.2f}"
    return f'<td class="number">{scores.score:.2f} <span class="error">± {error}</span></td>'


def _metrics(row: Row) -> str:
    before = row.before.metrics if row.before else {}
    after = row.after.metrics if row.after else {}
    parts = []
    for name in dict.fromkeys([*before, *after]):
        values = [f"{side[name]:.2f}" for side in (before, after) if name in side]
        parts.append(f"{shown(name, MAX_NAME)} {' → '.join(dict.fromkeys(values))}")
    return f'<span class="metrics">{" · ".join(parts)}</span>' if parts else ""


def _published(comparison: Comparison) -> str:
    rows = [(row, entry) for row in [comparison.overall, *comparison.tasks] for entry in row.published]
    if not rows:
        return ""
    lines = "\n".join(
        f'<tr><th scope="row">{shown(entry.title, MAX_NAME)}</th><td class="number">{_paper(entry)}</td>'
        f"<td>{shown(entry.trained_in or '–', MAX_NAME)}</td>"
        f'<td class="number">{_ours(row)}{_tags(comparison)}</td></tr>'
        for row, entry in rows
    )
    kinds = " and ".join(k for k, holds in (("synthetic", comparison.synthetic), ("short", comparison.short)) if holds)
    words = (
        f"Ours is {kinds}: the two do not compare."
        if kinds
        else "The paper's base model is Qwen2-VL-7B-Instruct; another model's scores compare only in how they change."
    )
    sources = ", ".join(dict.fromkeys(entry.source for _, entry in rows))
    return f"""<h3>Beside the paper</h3>
<p><b>{words}</b> The prompts of BALROG, VSI-Bench and VisualWebBench are the published ones in other words.
Source: {shown(sources, MAX_SHORT)}.</p>
<div class="wide"><table><thead><tr><th scope="col">benchmark</th><th scope="col" class="number">paper</th>
<th scope="col">trained in</th><th scope="col" class="number">ours</th></tr></thead>
<tbody>{lines}</tbody></table></div>"""


def _paper(entry: Published) -> str:
    before = _value(entry.before, entry.before_error)
    if entry.after is None:
        return f"{before} → within about ±1"
    return f"{before} → {_value(entry.after, entry.after_error)} ({signed(entry.after - entry.before)})"


def _ours(row: Row) -> str:
    values = " → ".join(_value(side.score, side.standard_error) if side else "–" for side in (row.before, row.after))
    return f"{values} ({signed(row.difference.mean)})" if row.difference else values


def _value(score: float, error: float | None) -> str:
    return f"{score:.2f}" if error is None else f"{score:.2f} ± {error:.2f}"


def _changes(comparison: Comparison, before: str, after: str) -> str:
    if comparison.overall.before is None or comparison.overall.after is None:
        return ""
    total = comparison.ups + comparison.downs
    if not total:
        return "<p>No record changed its score.</p>"
    which = f"The {len(comparison.changes)} that changed most of " if total > len(comparison.changes) else ""
    records = "\n".join(_change(change, before, after) for change in comparison.changes)
    return f"""<details class="changes"><summary>{which}{total} records whose score changed:
{comparison.ups} up, {comparison.downs} down</summary>
{records}
</details>"""


def _change(change: Change, before: str, after: str) -> str:
    one, two = change.before, change.after
    pictures = shown(", ".join(one.images), MAX_SHORT)
    return f"""<article>
<h4>{shown(one.id, MAX_SHORT)} <span class="task">{shown(one.task, MAX_NAME)}</span>
<span class="{"up" if two.score > one.score else "down"}">{one.score:.2f} → {two.score:.2f}</span></h4>
<div class="text"><h5>prompt{f" · {pictures}" if pictures else ""}</h5><pre>{shown(one.prompt, MAX_PROMPT)}</pre></div>
<div class="answers">{_answer(before, one)}{_answer(after, two)}</div>
</article>"""


def _answer(name: str, record: Record) -> str:
    parsed = "<i>nothing</i>" if record.parsed is None else f"<bdi>{shown(str(record.parsed), MAX_SHORT)}</bdi>"
    return (
        f'<div class="text"><h5>{name} · score {record.score:.2f} · read as {parsed}</h5>'
        f"<pre>{shown(record.answer, MAX_ANSWER)}</pre></div>"
    )


def _options(comparison: Comparison, before: str, after: str) -> str:
    sides = [("benchmark", comparison.identity), (before, comparison.models[0]), (after, comparison.models[1])]
    lines = "".join(f"<dt>{name}</dt><dd>{_values(values)}</dd>" for name, values in sides if values)
    return f'<details class="options"><summary>Options and models</summary><dl>{lines}</dl></details>'


def _values(values: Mapping[str, Any]) -> str:
    return shown(", ".join(f"{key}: {str(value)[:MAX_SHORT]}" for key, value in values.items()), 2000)
