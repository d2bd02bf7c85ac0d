"""MuirBench, questions about several pictures (Wang et al. 2024, arXiv 2406.09411)."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from benchmarks.harness.tables import Row, read_pictures
from benchmarks.suites.choice_sets import suite
from benchmarks.suites.choice_sets.choice_set import ChoiceSet, lettered
from vldac.models.conversation import Image

_PLACE = "<image>"
_LETTER = re.compile(r"\s*([A-Z])\.")


class MuirBench(ChoiceSet):
    """MuirBench as lmms-eval reads it (`lmms_eval/tasks/muirbench`).

    Pictures stand where the text has `<image>`; those that have no place in it stand before it.
    """

    name, title = suite.MUIRBENCH.name, suite.MUIRBENCH.title
    hub_name = "MUIRBENCH/MUIRBENCH"
    columns = ("idx", "task", "question", "options", "answer")
    id_column = "idx"
    task_column = "task"
    max_new_tokens = 16

    def letter(self, row: Row) -> str:
        """See `ChoiceSet`; in small letters, because answers are compared so."""
        return row.letter("answer", string.ascii_uppercase[: len(row.texts("options"))]).lower()

    def text(self, row: Row) -> str:
        """See `ChoiceSet`."""
        options = row.texts("options")
        if not 2 <= len(options) <= len(string.ascii_uppercase):
            raise row.error(f"it has {len(options)} options")
        return f"{row.text('question')}\n{lettered(options)}\nReply with nothing but the letter of the right option."

    def pictures(self, row: Row) -> Sequence[Image]:
        """See `ChoiceSet`."""
        return read_pictures(row, "image_list")

    def content(self, row: Row) -> tuple[str | Image, ...]:
        """See `ChoiceSet`; text and pictures in turns."""
        pictures, texts = list(self.pictures(row)), self.text(row).split(_PLACE)
        first = len(pictures) - (len(texts) - 1)
        if first < 0:
            raise row.error(f"its text has {len(texts) - 1} places for {len(pictures)} pictures")
        parts: list[str | Image] = [*pictures[:first], texts[0]]
        for picture, text in zip(pictures[first:], texts[1:], strict=True):
            parts += [picture, text]
        return tuple(part for part in parts if not isinstance(part, str) or part)

    def read(self, text: str) -> str:
        """See `ChoiceSet`: the capital letter that the answer begins with before a period, or else the whole answer."""
        match = _LETTER.match(text)
        return (match[1] if match else text).lower().strip()
