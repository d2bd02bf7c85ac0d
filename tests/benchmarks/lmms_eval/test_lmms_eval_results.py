from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from benchmarks.lmms_eval.results import UnsupportedTaskError, records, summarize

# As lmms-eval 0.7.3 returns them: shares or percent by task, what has no value as "N/A" or None, groups without scores.
RESULTS: dict[str, Any] = {
    "results": {
        "gqa": {
            "alias": "gqa",
            "exact_match,none": np.float64(0.625),
            "exact_match_stderr,none": 0.01,
            "exact_match_stderr_clt,none": np.float64(0.02),
            "exact_match_stderr_clustered,none": "N/A",
        },
        "mmbench_en": {"alias": "mmbench_en", " ": " "},
        "mmbench_en_dev": {
            "alias": " - mmbench_en_dev",
            "gpt_eval_score,none": 80.0,
            "gpt_eval_score_stderr,none": "N/A",
            "gpt_eval_score_stderr_clt,none": "N/A",
            "submission,none": None,
        },
        "mmbench_en_test": {"alias": " - mmbench_en_test", "submission,none": None, "submission_stderr,none": []},
        "mmstar": {"alias": "mmstar", "math,none": 0.25, "average,none": 0.5, "average_stderr_clt,none": 0.03},
        "videomme": {
            "alias": "videomme",
            "videomme_perception_score,none": 57.0,
            "videomme_perception_score_stderr,none": "N/A",
            "videomme_perception_score_stderr_clt,none": 0.01,
            "videomme_perception_score_stderr_clustered,none": 0.015,
        },
        "ai2d": {"alias": "ai2d", "exact_match,flexible-extract": 1, "exact_match_stderr_clt,flexible-extract": 0.0},
    },
    "n-samples": {
        "gqa": {"original": 12578, "effective": 400},
        "mmbench_en_dev": {"original": 4329, "effective": 400},
        "mmbench_en_test": {"original": 6666, "effective": 400},
        "mmstar": {"original": 1500, "effective": 400},
        "videomme": {"original": 2700, "effective": 400},
        "ai2d": {"original": 3088, "effective": 400},
    },
}


def test_summary() -> None:
    summary = summarize(RESULTS)
    told = {
        task: (scores["score"], scores["standard_error"], scores["count"]) for task, scores in summary["tasks"].items()
    }
    assert told == {
        "gqa": (62.5, 2.0, 400),
        "mmbench_en_dev": (80.0, pytest.approx(100 * math.sqrt(0.8 * 0.2 / 400)), 400),
        "mmstar": (50.0, 3.0, 400),
        "videomme": (57.0, 1.5, 400),
        "ai2d": (100.0, 0.0, 400),
    }
    assert summary["score"] == pytest.approx((62.5 + 80 + 50 + 57 + 100) / 5)
    assert summary["standard_error"] == pytest.approx(math.sqrt(2**2 + 2**2 + 3**2 + 1.5**2) / 5)
    assert summary["count"] == 2000
    assert summary["unscored"] == {"mmbench_en": {}, "mmbench_en_test": {}}
    assert summary["tasks"]["mmstar"]["metrics"] == {
        "math,none": 0.25,
        "average,none": 0.5,
        "average_stderr_clt,none": 0.03,
    }
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("value", [None, "N/A", float("nan"), True, []])
def test_a_headline_without_a_number_is_no_score(value: Any) -> None:
    broken = {"results": {"gqa": {"exact_match,none": value}}, "n-samples": {"gqa": {"effective": 3}}}
    with pytest.raises(
        UnsupportedTaskError, match="none of the tasks gqa has a headline score here; those with one are"
    ):
        summarize(broken)


def sample(doc_id: int, **values: Any) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "target": "A",
        "arguments": ["Which?", {"until": []}, doc_id, "task", "test"],
        "resps": [["A. so"]],
        "filtered_resps": ["A"],
        **values,
    }


def test_records_of_questions_with_a_score_of_their_own() -> None:
    made = records(
        {
            "samples": {
                "gqa": [sample(0, exact_match=1.0), sample(1, exact_match=np.float64(0.0)), sample(1, exact_match=1.0)],
                "mmstar": [sample(3, average={"question_id": 3, "l2_category": "x", "score": 1.0})],
                "mmbench_en_dev": [sample(0, gpt_eval_score={"index": 0, "answer": "A", "prediction": "A"})],
                "other": [sample(0, exact_match=1.0)],
            }
        }
    )
    assert [(record.id, record.task, record.score) for record in made] == [
        ("gqa-0", "gqa", 1.0),
        ("gqa-1", "gqa", 0.0),
        ("mmstar-3", "mmstar", 1.0),
    ]
    assert (made[0].prompt, made[0].answer, made[0].parsed) == ("Which?", "A. so", "A")
    assert records({"results": {}}) == []
