"""The rule of promotion: better beyond doubt, and no worse at everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.tracking.promotion import UNDERSTANDING_MARGIN, Score, decide

CHAMPION = Score(0.80, 0.75, 0.85)
BASE, RANDOM = Score(0.50, 0.45, 0.55), Score(0.60, 0.55, 0.65)
BASELINES = {"the base model": BASE, "the random policy": RANDOM}


@pytest.mark.parametrize(
    ("candidate", "champion", "promoted", "why"),
    [
        (Score(0.1, 0.0, 0.2), None, True, "no champion"),
        (Score(0.95, 0.90, 0.98), CHAMPION, True, "do not overlap"),
        (Score(0.86, 0.82, 0.90), CHAMPION, False, "overlap"),
        (Score(0.90, 0.85, 0.95), CHAMPION, False, "overlap"),
        (Score(0.80, 0.75, 0.85), CHAMPION, False, "not better"),
        (Score(0.10, 0.05, 0.15), CHAMPION, False, "not better"),
    ],
    ids=["first", "clearly better", "a little better", "touching", "equal", "worse"],
)
def test_only_what_is_better_beyond_doubt_is_promoted(
    candidate: Score, champion: Score | None, promoted: bool, why: str
) -> None:
    decision = decide(candidate, champion)
    assert decision.promote is promoted
    assert why in decision.reason


@pytest.mark.parametrize(
    ("candidate", "promoted", "why"),
    [
        (Score(0.75, 0.70, 0.80), True, "do not overlap"),
        (Score(0.64, 0.60, 0.68), False, "the random policy"),  # beats the base model only
        (Score(0.55, 0.50, 0.60), False, "the base model"),
        (Score(0.40, 0.35, 0.45), False, "not better"),
    ],
)
def test_the_first_champion_beats_its_own_base_and_the_random_policy(
    candidate: Score, promoted: bool, why: str
) -> None:
    decision = decide(candidate, None, baselines=BASELINES)
    assert decision.promote is promoted
    assert why in decision.reason
    assert decision.reason.startswith("there was no champion; ")


def test_a_champion_is_the_only_one_to_beat() -> None:
    assert not decide(Score(0.82, 0.77, 0.87), CHAMPION, baselines=BASELINES).promote


def better(understanding: dict[str, float]) -> Score:
    return Score(0.95, 0.90, 0.98, understanding)


def champion(understanding: dict[str, float]) -> Score:
    return Score(0.80, 0.75, 0.85, understanding)


@pytest.mark.parametrize(
    ("mine", "its", "promoted", "why"),
    [
        (0.60, 0.60, True, "0.600 against 0.600"),
        (0.60 - UNDERSTANDING_MARGIN, 0.60, True, "0.580 against"),
        (0.57, 0.60, False, "fell by more than 0.02"),
        (0.90, 0.60, True, "0.900 against"),
    ],
)
def test_general_understanding_may_fall_by_a_margin_only(mine: float, its: float, promoted: bool, why: str) -> None:
    decision = decide(better({"short": mine}), champion({"short": its}))
    assert decision.promote is promoted
    assert why in decision.reason


def test_understanding_is_compared_by_every_benchmark_that_both_ran() -> None:
    its = champion({"short": 0.60, "full": 0.70, "other": 0.9})
    assert decide(better({"short": 0.60, "full": 0.70}), its).promote
    assert "0.500 against 0.700" in decide(better({"short": 0.60, "full": 0.50}), its).reason
    assert not decide(better({"short": 0.60, "full": 0.50}), its).promote


def test_a_champion_that_was_measured_is_not_replaced_by_what_does_not_compare() -> None:
    decision = decide(better({"full": 0.2}), champion({"short": 0.9}), version="vldac-a/3")
    assert not decision.promote
    assert "was measured with other options than the champion's" in decision.reason
    assert "vldac benchmark models:/vldac-a@champion --benchmark understanding --params params.yaml" in decision.reason
    decision = decide(better({}), champion({"short": 0.9}), version="vldac-a/3")
    assert not decision.promote
    assert "vldac benchmark models:/vldac-a/3 --benchmark understanding, then promote again" in decision.reason


def test_a_champion_that_was_never_measured_is_replaced_by_success_alone() -> None:
    decision = decide(better({"short": 0.6}), champion({}))
    assert decision.promote
    assert "was not measured on both" in decision.reason


def test_the_first_champion_needs_no_measurement() -> None:
    assert decide(better({}), None, baselines={"the base model": replace(BASE, understanding={"short": 0.9})}).promote
    assert not decide(
        better({"short": 0.5}), None, baselines={"the base model": replace(BASE, understanding={"short": 0.9})}
    ).promote


def test_a_score_is_read_from_a_policys_entry_of_the_summary() -> None:
    entry = {"success": 1, "success_ci": [0.9, 1], "return": 0.5}
    assert Score.of(entry) == Score(1.0, 0.9, 1.0)
    kept = [{"score": 62.0, "digest": "a"}, {"score": 50.0, "digest": "b"}]
    assert Score.of(entry, kept) == Score(1.0, 0.9, 1.0, {"a": 0.62, "b": 0.5})
