"""What an answer is worth, by the rules of the official programs (utils/eval_utils.py; lmms-eval's copy of it)."""

from __future__ import annotations

from benchmarks.harness.options import Parser
from benchmarks.harness.task import Scored
from benchmarks.suites.visual_web_bench.example import CHOICE_TASKS, ELEMENT_OCR, WEBQA, ParsedResponse
from benchmarks.suites.visual_web_bench.parsing import extract, option
from benchmarks.suites.visual_web_bench.rouge import Rouge, rouge, rouge_1


def score(task: str, answer: ParsedResponse, text: str, parser: Parser) -> Scored:
    """Scores a model's text; metrics are in [0, 1].

    Three tasks have `rouge_1`, `rouge_2` and `rouge_l`, the headline; three have `accuracy`. `webqa` has `f1`, or no
    metric at all where the official program leaves the question out: see `_webqa`.
    """
    parsed = extract(text, task, parser)
    if task in CHOICE_TASKS:
        letter = option(parsed)
        right = letter is not None and ord(letter) - ord("A") == answer
        return Scored(float(right), letter, {"accuracy": float(right)})
    if task == WEBQA:
        assert isinstance(answer, tuple)
        return _webqa(answer, parsed, parser)
    assert isinstance(answer, str)
    if not parsed or (task == ELEMENT_OCR and len(parsed) == 1):
        # An empty answer is scored as a space; so is one of a single character in element_ocr, even if it is right.
        parsed = " "
    # The official programs stop with an exception at an answer of full stops only; here it is wrong.
    scores = rouge(parsed, answer) or Rouge(0.0, 0.0, 0.0)
    return Scored(scores.rouge_l, parsed.strip() or None, scores._asdict())


def _webqa(answers: tuple[str, ...], parsed: str, parser: Parser) -> Scored:
    """The best ROUGE-1 over the accepted answers.

    eval_webqa swallows whatever `rouge` raises, so that a question whose answer, or any accepted one, consists of full
    stops only is left out of the mean instead of counting as wrong. lmms-eval then divides by zero and stops; here
    such an answer is wrong in that mode.
    """
    f1 = [rouge_1(parsed or " ", answer) for answer in answers]
    known = [value for value in f1 if value is not None]
    if f1 and len(known) == len(f1):
        return Scored(max(known), parsed or None, {"f1": max(known)})
    return Scored(0.0, parsed or None, {} if parser == "original" else {"f1": 0.0})
