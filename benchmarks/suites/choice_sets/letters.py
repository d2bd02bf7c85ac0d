"""Which option an answer names, as lmms-eval reads it.

Source: EvolvingLMMs-Lab/lmms-eval, `lmms_eval/tasks/_task_utils/mcq_extract.py`. The result is the same for every
text; the phrases below are its, because a score depends on them.
"""

from __future__ import annotations

from collections.abc import Iterator

_PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is"),
    *("best answer is", "the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("my answer is", "my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
#: The letter between these, from the most to the least telling.
_MARKS = (("(", ")"), ("", "."), ("", ":"), ("", ")"), ("", " "))
_START, _END, _PHRASE, _BARE = 10, 9, 8, 0


def extract_letter(text: str, choices: str = "ABCD") -> str:
    """The option that an answer names, or "".

    A letter at the start of the answer counts most, then one at its end, then one after a phrase such as "the answer
    is", then "(A)", "A.", "A:", "A)", "A ", and at last any such letter, even inside of a word. Of several that count
    the same the last one is taken.

    Args:
        text: the answer.
        choices: capital letters.
    """
    stripped = text.strip()
    for mark in ",.!?;:'\"":
        stripped = stripped.strip(mark)
    found = list(_marked(f" {stripped} ", choices)) or list(_bare(stripped, choices))
    return max(found, key=lambda candidate: candidate[:2], default=(0, 0, ""))[2]


def _marked(text: str, choices: str) -> Iterator[tuple[int, int, str]]:
    """How much each mention of a letter counts, where it is, and the letter."""
    small = text.lower()
    after = [small.find(phrase) + len(phrase) for phrase in _PHRASES if phrase in small]
    inner = text.strip()
    for letter in choices:
        for rank, (before, behind) in enumerate(_MARKS):
            if (position := text.rfind(f"{before}{letter}{behind}")) >= 0:
                yield _PHRASE - 1 - rank, position, letter
        for start in after:
            # Any such letter after the phrase: "the answer is And" names A.
            if (position := text.find(letter, start)) >= 0:
                yield _PHRASE, position, letter
        if inner.startswith(letter) and not inner[1:2].isalpha():
            yield _START, 0, letter
        if inner.endswith(letter) and not inner[-2:-1].isalpha():
            yield _END, len(text), letter


def _bare(text: str, choices: str) -> Iterator[tuple[int, int, str]]:
    return ((_BARE, text.rfind(letter), letter) for letter in choices if letter in text)
