"""The exams by name, and how one is sat."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.exam import Exam, Examinee, Settings
from benchmarks.records import SUMMARY, Records
from vldac.checkpoint import write_json

#: Where the class of each exam is; importing it may need the exam's own packages.
EXAMS: Mapping[str, str] = {
    "understanding": "benchmarks.understanding.exam:Understanding",
    "vsi_bench": "benchmarks.vsi_bench.exam:VSIBench",
    "visual_web_bench": "benchmarks.visual_web_bench.exam:VisualWebBench",
    "balrog": "benchmarks.balrog.exam:Balrog",
    "erqa": "benchmarks.choice_sets.erqa:ERQA",
    "muirbench": "benchmarks.choice_sets.muirbench:MuirBench",
    "video_mme_spatial": "benchmarks.choice_sets.video_mme:VideoMMESpatial",
}


class UnknownExamError(ValueError):
    """No exam has this name; the message names them all."""


def make(name: str, settings: Settings) -> Exam:
    """The exam of this name.

    Raises:
        UnknownExamError: there is none.
        ExamDataError: its data is not there, or not as published.
    """
    if name not in EXAMS:
        raise UnknownExamError(f"there is no exam {name!r}; exams are {', '.join(EXAMS)}")
    module, _, attribute = EXAMS[name].partition(":")
    made: Exam = getattr(importlib.import_module(module), attribute)(settings)
    return made


def sit(
    exam: Exam,
    examinee: Examinee,
    out: Path,
    model: Mapping[str, Any],
    *,
    inputs: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Examines a model, or goes on where a killed exam of the same model was.

    Args:
        exam: with its settings.
        examinee: the model.
        out: takes exam.json, records.jsonl and summary.json.
        model: what tells this model and its picture limits from others, as JSON.
        inputs: hash of whatever else decides the records, such as the code.
        overwrite: remove what `out` holds of another exam, model or inputs, instead of raising.

    Returns:
        What summary.json holds: see `Exam.summarise`, with the exam's name, whether its data is synthetic, and its
        identity.

    Raises:
        OtherExamError: `out` holds another exam, another model's, or one of other inputs.
        RecordsError: another process writes to `out`, or something in it is no record.
    """
    identity = {
        "exam": exam.name,
        "profile": exam.settings.profile,
        "limit": exam.settings.limit,
        **exam.identity(),
    }
    decides = {"model": dict(model)} | ({} if inputs is None else {"inputs": inputs})
    with Records(out, {**identity, **decides}, overwrite=overwrite) as records:
        exam.run(examinee, records)
        scores = exam.summarise(list(records))
        summary = {"exam": exam.name, "title": exam.title, "synthetic": exam.synthetic, **scores, "identity": identity}
        write_json(out / SUMMARY, summary)
    return summary
