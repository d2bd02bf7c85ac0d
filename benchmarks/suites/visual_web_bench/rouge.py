"""ROUGE-1, ROUGE-2 and ROUGE-L as the package `rouge` 1.0.1 computes them, which both official programs score with.

The package itself raises RecursionError for an answer of about a thousand words without a full stop and ValueError for
one of full stops only, both of which a model can write; the numbers here are equal to its numbers wherever it has any.
Sentences end at ".", words at white space; nothing is lower-cased, stemmed or stripped of punctuation; n-grams and
words count once however often they occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_EPSILON = 1e-8  # keeps the harmonic mean defined, and every perfect score 5e-9 below 1


class Rouge(NamedTuple):
    """F scores in [0, 1]."""

    rouge_1: float
    rouge_2: float
    rouge_l: float


def rouge(hypothesis: str, reference: str) -> Rouge | None:
    """All three scores of a pair of texts, or None where one of them has no sentence (it is empty or only ".")."""
    hypotheses, references = _sentences(hypothesis), _sentences(reference)
    if not hypotheses or not references:
        return None
    return Rouge(
        _rouge_n(hypotheses, references, 1), _rouge_n(hypotheses, references, 2), _rouge_l(hypotheses, references)
    )


def rouge_1(hypothesis: str, reference: str) -> float | None:
    """ROUGE-1 alone, or None as `rouge`."""
    hypotheses, references = _sentences(hypothesis), _sentences(reference)
    return _rouge_n(hypotheses, references, 1) if hypotheses and references else None


def _sentences(text: str) -> list[list[str]]:
    """The words of each sentence; one of white space only is a sentence of one empty word, as in the package."""
    return [sentence.split() or [""] for sentence in text.split(".") if sentence]


def _rouge_n(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]], n: int) -> float:
    """Over n-grams, which may span sentences."""
    hypothesis, reference = _ngrams(hypotheses, n), _ngrams(references, n)
    return _f_score(len(hypothesis & reference), len(hypothesis), len(reference))


def _ngrams(sentences: Sequence[Sequence[str]], n: int) -> set[tuple[str, ...]]:
    words = [word for sentence in sentences for word in sentence]
    return set(zip(*(words[i:] for i in range(n)), strict=False))


def _rouge_l(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """At summary level: the words of the longest common subsequences of every pair of sentences, each counted once."""
    common: set[str] = set()
    for reference in references:
        for hypothesis in hypotheses:
            common |= _common_subsequence(reference, hypothesis)
    count = [len({word for sentence in sentences for word in sentence}) for sentences in (hypotheses, references)]
    return _f_score(len(common), *count)


def _common_subsequence(reference: Sequence[str], hypothesis: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence.

    Where there are several, it is the one found from the ends by dropping a word of the hypothesis first; which one
    decides how many different words it has, so this is part of the score.
    """
    lengths = [[0] * (len(hypothesis) + 1)]
    for word in reference:
        above, row = lengths[-1], [0]
        for j, other in enumerate(hypothesis):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        lengths.append(row)
    words: set[str] = set()
    i, j = len(reference), len(hypothesis)
    while i and j:
        if reference[i - 1] == hypothesis[j - 1]:
            i, j = i - 1, j - 1
            words.add(reference[i])
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words


def _f_score(common: int, hypothesis: int, reference: int) -> float:
    """The harmonic mean of precision and recall, in the package's order of operations."""
    precision = common / hypothesis if hypothesis else 0.0
    recall = common / reference if reference else 0.0
    return 2.0 * ((precision * recall) / (precision + recall + _EPSILON))
