"""How the answer is found in what a model wrote, by the rules of the two official programs.

`original` is VisualWebBench/VisualWebBench as it runs LLaVA (model_adapters/llava_adapter.py, utils/eval_utils.py);
its adapters of other models differ, and this is the one that the authors name as the example to follow. `lmms-eval` is
EvolvingLMMs-Lab/lmms-eval (lmms_eval/tasks/visualwebbench/utils.py), with what its evaluator does to every answer.
"""

from __future__ import annotations

import re

from benchmarks.harness.options import Parser
from benchmarks.suites.visual_web_bench.example import CAPTION, ELEMENT_OCR, LETTERS

_META = re.compile(r'<meta name="description" content="(.*)">')
_PUNCTUATION = str.maketrans("", "", ",.!?;:'\"")
_REASONING_TAGS = (("<think>", "</think>"), ("<analysis>", "</analysis>"))


def extract(text: str, task: str, parser: Parser) -> str:
    """The part of a model's text that is scored."""
    if parser == "lmms-eval":
        return _without_reasoning(text)
    text = text.strip()
    if task == CAPTION:
        found = _META.search(text)
        return found[1] if found else text
    if task == ELEMENT_OCR and ":" in text:
        return text.partition(":")[2].strip().strip('"').strip("'")
    return text


def option(text: str) -> str | None:
    """The letter that an extracted answer names, or None.

    Tried in this order: a single character, whatever it is, in upper case; a capital and a full stop at the start;
    "(A)" to "(H)"; "A" to "H" standing alone once punctuation is gone. The last one counts where there are several.
    A letter beyond the options is returned too; no option has it.
    """
    if len(text) == 1:
        letter = text.upper()
        return letter if len(letter) == 1 and "A" <= letter <= "Z" else None
    if re.match(r"[A-Z]\.", text):
        return text[0]
    text = f" {text.translate(_PUNCTUATION)} "
    for pattern in ("({})", " {} "):
        last = {letter: text.rfind(pattern.format(letter)) for letter in LETTERS}
        best = max(last, key=last.__getitem__)
        if last[best] >= 0:
            return best
    return None


def _without_reasoning(text: str) -> str:
    """Without reasoning in the tags that lmms-eval knows by default (lmms_eval/api/reasoning.py)."""
    for start_tag, end_tag in _REASONING_TAGS:
        while (start := text.find(start_tag)) >= 0 and (end := text.find(end_tag, start)) >= 0:
            text = text[:start] + text[end + len(end_tag) :]
        if start < 0 and end_tag in text:
            text = text.rpartition(end_tag)[2]
    return text.strip()
