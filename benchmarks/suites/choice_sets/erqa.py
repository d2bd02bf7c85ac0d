"""ERQA, embodied reasoning about pictures (Gemini Robotics team 2025, arXiv 2503.20020)."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness.tables import Row, read_pictures
from benchmarks.suites.choice_sets import suite
from benchmarks.suites.choice_sets.choice_set import ChoiceSet
from benchmarks.suites.choice_sets.letters import extract_letter
from vldac.models.conversation import Image

_CHOICES = "ABCD"


class ERQA(ChoiceSet):
    """ERQA as lmms-eval asks and reads it (`lmms_eval/tasks/erqa`).

    The published question already holds its options and says how to answer; the pictures stand before it, although
    the data set also says where in the text they belong.
    """

    name, title = suite.ERQA.name, suite.ERQA.title
    hub_name = "FlagEval/ERQA"
    columns = ("question_id", "question_type", "question", "answer")
    id_column = "question_id"
    task_column = "question_type"
    max_new_tokens = 1024

    def letter(self, row: Row) -> str:
        """See `ChoiceSet`."""
        return row.letter("answer", _CHOICES)

    def text(self, row: Row) -> str:
        """See `ChoiceSet`."""
        return row.text("question")

    def pictures(self, row: Row) -> Sequence[Image]:
        """See `ChoiceSet`."""
        return read_pictures(row, "images")

    def read(self, text: str) -> str:
        """See `ChoiceSet`."""
        return extract_letter(text, _CHOICES)
