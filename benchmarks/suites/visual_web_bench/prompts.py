"""What a model is asked: in meaning the published prompts (utils/prompts.py), which lmms-eval has taken over."""

from __future__ import annotations

from benchmarks.harness.options import Style
from benchmarks.suites.visual_web_bench.example import (
    ACTION_GROUND,
    ACTION_PREDICTION,
    CAPTION,
    ELEMENT_GROUND,
    ELEMENT_OCR,
    HEADING_OCR,
    LETTERS,
    WEBQA,
    Example,
)

_LETTER_ONLY = "Answer with the one capital letter of your choice and nothing else: no explanation."
_BOXED = (
    "The picture is a screenshot of a web page with a red rectangle around one element. The [x1, y1, x2, y2] "
    "coordinates of the rectangle are {bbox}."
)
_LABELLED = "The picture is a screenshot of a website in which some HTML elements are labelled with letters."

_FULL = {
    CAPTION: (
        "The picture is a screenshot of a web page. Write the page's meta description, which is what its HTML has in "
        'the content attribute of <meta name="description" content="">.\n\n'
        "Keep to this format, without an explanation or anything else:\n"
        '<meta name="description" content="YOUR ANSWER">\n'
    ),
    HEADING_OCR: (
        "The picture is a screenshot of a web page. Read out its main text, the one that serves as the page's heading."
        "\n\nAnswer with that text alone, without an explanation or anything else.\n"
    ),
    WEBQA: "{question}\nAnswer directly and in as few words as you can, without an explanation or anything else.\n",
    ELEMENT_OCR: (
        _BOXED + "\nRead the text inside the red rectangle.\n\nKeep to this format:\n"
        "The text inside the red rectangle is: <YOUR ANSWER>\n"
    ),
    ELEMENT_GROUND: _LABELLED + " Which one fits this description best: {elem_desc}\n\n" + _LETTER_ONLY + "\n",
    ACTION_PREDICTION: (
        _BOXED + "\nChoose the description that fits best the web page which a click on that element opens:\n"
        "{options}\n\n" + _LETTER_ONLY + "\n"
    ),
    ACTION_GROUND: (
        _LABELLED + " Which one has to be clicked to carry out this task: {instruction}\n\n" + _LETTER_ONLY + "\n"
    ),
}

_TERSE = {
    CAPTION: "describe the page.",
    HEADING_OCR: "read the heading.",
    WEBQA: "{question}",
    ELEMENT_OCR: "read the red box.",
    ELEMENT_GROUND: "which letter: {elem_desc}?",
    ACTION_PREDICTION: "click the red box. which page? {options}",
    ACTION_GROUND: "which letter to click: {instruction}?",
}


def prompt(example: Example, style: Style) -> str:
    """The text that goes with the picture.

    Options are written as the official programs write them, which is as a Python list and without letters although a
    letter is asked for: utils/prompts.py's {choices_text} is the bare list. A model that answers with the text of an
    option scores nothing. The terse prompts, which are of this project, have letters.
    """
    fields = {
        "question": example.question,
        "bbox": str(list(example.bbox or ())),
        "elem_desc": example.elem_desc,
        "options": str(list(example.options)),
        "instruction": example.instruction,
    }
    if style == "terse":
        fields["options"] = " ".join(
            f"({letter}) {text}" for letter, text in zip(LETTERS, example.options, strict=False)
        )
    return (_FULL if style == "full" else _TERSE)[example.task].format_map(fields)
