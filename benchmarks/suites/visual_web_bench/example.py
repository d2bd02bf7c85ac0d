"""One question of VisualWebBench, wherever its page comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vldac.models.conversation import Image

CAPTION, WEBQA, HEADING_OCR = "web_caption", "webqa", "heading_ocr"
ELEMENT_OCR, ELEMENT_GROUND = "element_ocr", "element_ground"
ACTION_PREDICTION, ACTION_GROUND = "action_prediction", "action_ground"

#: In the order of the published table.
TASKS = (CAPTION, WEBQA, HEADING_OCR, ELEMENT_OCR, ELEMENT_GROUND, ACTION_PREDICTION, ACTION_GROUND)
#: Answered by a letter.
CHOICE_TASKS = (ELEMENT_GROUND, ACTION_PREDICTION, ACTION_GROUND)
#: Which fields a prompt of the task shows, by their published names.
SHOWN_FIELDS: dict[str, tuple[str, ...]] = {
    CAPTION: (),
    WEBQA: ("question",),
    HEADING_OCR: (),
    ELEMENT_OCR: ("bbox",),
    ELEMENT_GROUND: ("elem_desc",),
    ACTION_PREDICTION: ("bbox", "options"),
    ACTION_GROUND: ("instruction",),
}
LETTERS = "ABCDEFGH"

Box = tuple[float, float, float, float]
ParsedResponse = str | tuple[str, ...] | int


@dataclass(frozen=True)
class Example:
    """A question; a field that its task does not show is empty.

    Attributes:
        id: unique in the benchmark.
        task: one of `TASKS`.
        source: where the picture comes from, for the record.
        load: reads or draws the picture, (H, W, 3) uint8. Red boxes and black labels are part of it, in the published
            data too: nothing is drawn onto a published picture.
        answer: a text; of `webqa` every accepted text; of the tasks with options the index of the right one.
        question: of `webqa`.
        bbox: left, top, right, bottom of the red box as shares of the picture's width and height.
        elem_desc: which element is meant, in words.
        options: of `action_prediction` the descriptions of pages, without letters.
        instruction: of `action_ground`, what is to be done by a click.
    """

    id: str
    task: str
    source: str
    load: Callable[[], Image] = field(repr=False)
    answer: ParsedResponse
    question: str = ""
    bbox: Box | None = None
    elem_desc: str = ""
    options: tuple[str, ...] = ()
    instruction: str = ""
