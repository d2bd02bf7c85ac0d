"""What lmms-eval returns, in the form of this project's benchmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.harness.records import Record
from benchmarks.harness.scores import overall
from vldac.utils.errors import UserError

#: The headline metric of each task, all of them shares of right answers, and what makes it percent.
HEADLINES: Mapping[str, tuple[str, float]] = {
    "ai2d": ("exact_match", 100),
    "erqa": ("erqa_acc", 100),
    "gqa": ("exact_match", 100),
    "mmbench_en_dev": ("gpt_eval_score", 1),
    "mmbench_en_dev_static": ("gpt_eval_score", 1),
    "mmmu_val": ("mmmu_acc", 100),
    "mmstar": ("average", 100),
    "pope": ("pope_accuracy", 100),
    "realworldqa": ("exact_match", 100),
    "scienceqa_img": ("exact_match", 100),
    "seedbench": ("seed_all", 100),
    "videomme": ("videomme_perception_score", 1),
}
#: Standard errors over questions whose scores are 0 or 1, in that unit whatever the metric's own is; the best first.
_ERRORS = ("stderr_clustered", "stderr_clt")


class UnsupportedTaskError(UserError, NotImplementedError):
    """A task asks for what this model does not do; the message is one line."""


def summarize(results: Mapping[str, Any]) -> dict[str, Any]:
    """What lmms-eval returns, in the form of every benchmark's summary.

    The score is the unweighted mean of the tasks in `HEADLINES`, in percent. The standard error of a task is the one
    that lmms-eval clusters by video, else its plain one over questions, else sqrt(p(1-p)/n). The metrics are
    lmms-eval's, in its own units.

    Returns:
        See `Benchmark.summarize`; `unscored` holds the metrics of tasks that have no headline here.

    Raises:
        UnsupportedTaskError: no task has one.
    """
    tasks, unscored = {}, {}
    for task, values in results["results"].items():
        metrics = {name: float(value) for name, value in values.items() if "," in name and _is_number(value)}
        metric, percent = HEADLINES.get(task, ("", 0))
        name = next((name for name in metrics if name.partition(",")[0] == metric), None)
        if name is None:
            unscored[task] = metrics
            continue
        count, score = int(results["n-samples"][task]["effective"]), percent * metrics[name]
        errors = (metrics.get(f"{metric}_{kind},{name.partition(',')[2]}") for kind in _ERRORS)
        share = min(max(score / 100, 0.0), 1.0)
        error = next((error for error in errors if error is not None), math.sqrt(share * (1 - share) / count))
        tasks[task] = {"score": score, "standard_error": 100 * error, "count": count, "metrics": metrics}
    if not tasks:
        raise UnsupportedTaskError(
            f"none of the tasks {', '.join(unscored)} has a headline score here; those with one are "
            f"{', '.join(HEADLINES)}"
        )
    return {**overall(tasks), "unscored": unscored}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def records(results: Mapping[str, Any]) -> list[Record]:
    """One record for each question whose own score lmms-eval tells, so that two models can be compared by question."""
    made: dict[str, Record] = {}
    for task, samples in results.get("samples", {}).items():
        for sample in samples:
            score = sample.get(HEADLINES.get(task, ("", 0))[0])
            score = score.get("score") if isinstance(score, Mapping) else score
            record_id = f"{task}-{sample['doc_id']}"
            if not isinstance(score, (bool, int, float)) or not 0 <= score <= 1 or record_id in made:
                continue  # a task with several filters has a sample for each
            answer, parsed = sample["resps"][0], sample["filtered_resps"][0]
            made[record_id] = Record(
                id=record_id,
                task=task,
                prompt=next((text for text in sample["arguments"] if isinstance(text, str)), ""),
                images=(),
                answer=str(answer[0] if isinstance(answer, list) else answer),
                parsed=parsed if isinstance(parsed, str) else None,
                score=float(score),
            )
    return list(made.values())
