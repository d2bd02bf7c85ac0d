"""The rule by which a policy becomes the champion, on scores alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: How far general understanding, a share in [0, 1], may fall below the champion's.
UNDERSTANDING_MARGIN = 0.02


@dataclass(frozen=True)
class Score:
    """Success of a policy on unseen episodes.

    Attributes:
        success: share of episodes, in [0, 1].
        low, high: its 95% confidence interval.
        understanding: general understanding in [0, 1] by the digest of the benchmark that measured it: those of two
            benchmarks do not compare. Empty where it was not measured.
    """

    success: float
    low: float
    high: float
    understanding: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Mapping[str, Any], understanding: Iterable[Mapping[str, Any]] = ()) -> Score:
        """From a policy's entry of metrics/summary.json, and what `benchmark_scores` keeps of its understanding."""
        low, high = result["success_ci"]
        measured = {str(kept["digest"]): float(kept["score"]) / 100 for kept in understanding}
        return cls(float(result["success"]), float(low), float(high), measured)

    def __str__(self) -> str:
        return f"{self.success:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes the champion, and why."""

    promote: bool
    reason: str


def decide(
    candidate: Score, champion: Score | None, *, baselines: Mapping[str, Score] | None = None, version: str = "NAME/N"
) -> Decision:
    """The rule of promotion: a champion is only replaced by what is better beyond doubt.

    Better beyond doubt means that success is higher and that the 95% intervals do not overlap. Where there is no
    champion, the candidate has to be better in the same way than each of its `baselines`. General understanding, by the
    same benchmark, may fall by `UNDERSTANDING_MARGIN` at most; where a champion's was measured, the candidate's must be
    too.

    Args:
        candidate: the new policy's score.
        champion: that of the present champion on the same kind of episodes; None where there is no champion.
        baselines: by name, what a first champion must beat: its own base model and the random policy.
        version: the candidate as `vldac models` writes it, for the commands that a reason names.
    """
    if champion is None and not baselines:
        return Decision(True, f"there was no champion; success {candidate}")
    prefix = "" if champion is not None else "there was no champion; "
    others = {"the champion": champion} if champion is not None else dict(baselines or {})
    if worse := _success(others, candidate):
        return Decision(False, prefix + worse)
    compared = ", ".join(f"{other} of {name}" for name, other in others.items())
    reason = f"{prefix}better, and the 95% intervals do not overlap: success {candidate} against {compared}"
    pairs = [
        (candidate.understanding[benchmark], known, name)
        for name, other in others.items()
        for benchmark, known in other.understanding.items()
        if benchmark in candidate.understanding
    ]
    if not pairs:
        if champion is not None and champion.understanding:
            return Decision(False, f"better in success, but {_unmeasured(candidate, version)}")
        return Decision(True, f"{reason}; general understanding was not measured on both")
    mine, best, name = min(pairs, key=lambda pair: pair[0] - pair[1])  # where it fell most
    said = f"general understanding {mine:.3f} against {best:.3f} of {name}"
    if mine < best - UNDERSTANDING_MARGIN:
        return Decision(False, f"{prefix}{said} fell by more than {UNDERSTANDING_MARGIN}; success {candidate}")
    return Decision(True, f"{reason}; {said}")


def _success(others: Mapping[str, Score], candidate: Score) -> str | None:
    """Why a candidate's success is not above that of each other beyond doubt, None where it is."""
    for name, other in others.items():
        compared = f"success {candidate} against {other} of {name}"
        if candidate.success <= other.success:
            return f"not better: {compared}"
        if candidate.low <= other.high:
            return f"better, but the 95% intervals overlap: {compared}"
    return None


def _unmeasured(candidate: Score, version: str) -> str:
    """Why a candidate does not compare with a champion whose general understanding is known, and what makes it so."""
    if not candidate.understanding:
        evaluate = f"vldac benchmark models:/{version} --benchmark understanding"
        return f"the champion's general understanding was measured and its own was not; {evaluate}, then promote again"
    champion = f"models:/{version.rpartition('/')[0]}@champion"
    return (
        "general understanding was measured with other options than the champion's; measure the champion's with these: "
        f"vldac benchmark {champion} --benchmark understanding --params params.yaml, then promote again"
    )
