"""The rule by which a policy becomes the champion, on scores alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

#: How far general understanding, a share in [0, 1], may fall below the champion's.
UNDERSTANDING_MARGIN = 0.02


@dataclass(frozen=True)
class Score:
    """Success of a policy on unseen episodes.

    Attributes:
        success: share of episodes, in [0, 1].
        low, high: its 95% confidence interval.
        understanding: general understanding in [0, 1]; None where it was not measured.
        exam: digest of the exam that measured it; those of two exams do not compare.
    """

    success: float
    low: float
    high: float
    understanding: float | None = None
    exam: str | None = None

    @classmethod
    def of(cls, result: Mapping[str, Any], understanding: Mapping[str, Any] | None = None) -> Score:
        """From one policy's entry of metrics/summary.json, and what `pipelines.exams` keeps of its understanding."""
        low, high = result["success_ci"]
        score = cls(float(result["success"]), float(low), float(high))
        if understanding is None:
            return score
        return replace(score, understanding=float(understanding["score"]) / 100, exam=str(understanding["digest"]))

    def __str__(self) -> str:
        return f"{self.success:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes the champion, and why."""

    promote: bool
    reason: str


def decide(candidate: Score, champion: Score | None, *, baselines: Mapping[str, Score] | None = None) -> Decision:
    """The rule of promotion: a champion is only replaced by what is better beyond doubt.

    Better beyond doubt means that success is higher and that the 95% intervals do not overlap. Where there is no
    champion, the candidate has to be better in the same way than each of its `baselines`. General understanding may
    fall by `UNDERSTANDING_MARGIN` at most, where the same exam measured both.

    Args:
        candidate: the new policy's score.
        champion: that of the present champion on the same kind of episodes; None where there is no champion.
        baselines: by name, what a first champion must beat: its own base model and the random policy.
    """
    if champion is not None:
        return _against({"the champion": champion}, candidate, "")
    if not baselines:
        return Decision(True, f"there was no champion; success {candidate}")
    return _against(baselines, candidate, "there was no champion; ")


def _against(others: Mapping[str, Score], candidate: Score, prefix: str) -> Decision:
    for name, other in others.items():
        compared = f"success {candidate} against {other} of {name}"
        if candidate.success <= other.success:
            return Decision(False, f"{prefix}not better: {compared}")
        if candidate.low <= other.high:
            return Decision(False, f"{prefix}better, but the 95% intervals overlap: {compared}")
    compared = ", ".join(f"{other} of {name}" for name, other in others.items())
    reason = f"{prefix}better, and the 95% intervals do not overlap: success {candidate} against {compared}"
    known = {
        name: other.understanding
        for name, other in others.items()
        if other.understanding is not None and other.exam == candidate.exam
    }
    if candidate.understanding is None or not known:
        return Decision(True, f"{reason}; general understanding was not measured on both")
    name, best = max(known.items(), key=lambda item: item[1])
    said = f"general understanding {candidate.understanding:.3f} against {best:.3f} of {name}"
    if candidate.understanding < best - UNDERSTANDING_MARGIN:
        return Decision(False, f"{prefix}{said} fell by more than {UNDERSTANDING_MARGIN}; success {candidate}")
    return Decision(True, f"{reason}; {said}")
