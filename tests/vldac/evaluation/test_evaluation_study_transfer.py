"""What carries over, from results that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vldac.evaluation.study_lines import line
from vldac.evaluation.study import report, results, transfer


def examined(environment: str, seed: int, **successes: tuple[float, float]) -> dict[str, Any]:
    """A line with exams; success of the trained policy and of the base model in each."""
    exams = {
        name: {
            "trained": {"success": after, "episodes": 100},
            "base": {"success": before, "episodes": 100},
            "random": {"success": 0.1, "episodes": 100},
        }
        for name, (after, before) in successes.items()
    }
    return line("vldac", environment, seed, 0.9, exams=exams)


def test_what_carries_over_is_a_matrix_of_differences_with_intervals(tmp_path: Path) -> None:
    lines = [
        examined("Room", 0, Room=(0.98, 0.5), Hall=(0.7, 0.3), Cards=(0.2, 0.22)),
        examined("Room", 1, Room=(1.0, 0.5), Hall=(0.5, 0.3), Cards=(0.24, 0.22)),
        examined("Cards", 0, Room=(0.5, 0.5), Hall=(0.3, 0.3), Cards=(0.9, 0.22)),
    ]
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    about = {"study": {"name": "mine"}, "cells": 3, "command": "vldac study mine"}
    (tmp_path / "study.json").write_text(json.dumps(about))
    found = results.read(tmp_path)
    of = transfer.matrix(found)
    hall = of["Room"]["Hall"]
    assert (hall.trained, hall.base, hall.count) == (0.6, 0.3, (100, 200))  # one base model for both seeds
    assert hall.clear
    assert not hall.own
    assert of["Room"]["Room"].own
    assert not of["Room"]["Cards"].clear
    (tmp_path / "study.json").write_text(json.dumps(about | {"study": {"name": "mine", "base_per_seed": True}}))
    assert transfer.matrix(results.read(tmp_path))["Room"]["Hall"].count == (200, 200)  # a base model for each
    (tmp_path / "study.json").write_text(json.dumps(about))
    page = report.write(tmp_path).read_text()
    assert "| trained in Room | **0.99 (+0.49 [" in page
    assert "| 0.22 (+0.00 [" in page
    assert "![transfer](transfer.png)" in page
    assert page.count("base model of") == 0
    assert (tmp_path / "transfer.svg").stat().st_size > 1000


def test_each_row_stands_beside_its_own_base_where_they_differ(tmp_path: Path) -> None:
    lines = [examined("Room", 0, Hall=(0.7, 0.3)), examined("Cards", 0, Hall=(0.3, 0.5))]
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    about = {"study": {"name": "mine"}, "cells": 2, "command": "vldac study mine"}
    (tmp_path / "study.json").write_text(json.dumps(about))
    named = [row[0] for row in transfer.rows(results.read(tmp_path))]
    assert named == [
        "random policy", "base model of Room", "trained in Room", "base model of Cards", "trained in Cards"
    ]  # fmt: skip


def test_a_benchmark_is_a_column_of_scores_and_of_differences_question_by_question(tmp_path: Path) -> None:
    def put(seed: int, before: float, after: float, error: float, chance: float | None) -> dict[str, Any]:
        asked = {
            "benchmark": "vsi_bench",
            "synthetic": True,
            "base": {"score": before, "standard_error": 5.0, "count": 50},
            "trained": {"score": after, "standard_error": 5.0, "count": 50},
            "chance": chance,
            "difference": {"mean": after - before, "standard_error": error, "count": 50, "paired": True},
        }
        one = examined("Room", seed, Room=(1.0, 0.5))
        return one | {"benchmarks": {"Videos": asked, "Pages": asked | {"chance": None}}}

    lines = [put(0, 40.0, 44.0, 1.0, 25.0), put(1, 40.0, 48.0, 3.0, 25.0)]
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    about = {"study": {"name": "mine"}, "cells": 2, "command": "vldac study mine"}
    (tmp_path / "study.json").write_text(json.dumps(about))
    found = results.read(tmp_path)
    assert transfer.exams(found) == ["Room", "Videos", "Pages"]
    videos = transfer.matrix(found)["Room"]["Videos"]
    assert (videos.base, videos.trained) == pytest.approx((0.4, 0.46))
    assert videos.count == (50, 100)
    # (4 + 8) / 2 percent; the same questions: the errors of the seeds, 1 and 3, are averaged and not divided by root 2
    assert videos.difference == pytest.approx(0.06)
    assert videos.interval == pytest.approx((0.06 - 1.959964 * 0.02, 0.06 + 1.959964 * 0.02))
    assert videos.clear
    assert not videos.own
    random, base, trained = transfer.rows(found)
    assert random == ["random policy, or a guess", "0.10 [0.06, 0.17]", "0.25", ""]
    assert base[2] == "0.40 [0.30, 0.50]"
    assert trained[2] == "**0.46 (+0.06 [+0.02, +0.10])**"
    page = report.write(tmp_path).read_text()
    assert "Synthetic data, made here: Videos, Pages." in page


@pytest.mark.parametrize(
    ("error", "least", "shown"),
    [
        (1.0, 5, "**0.44 (+0.04 [+0.02, +0.06])**"),
        (1.0, 4, "0.44 (+0.04 [+0.02, +0.06])"),
        (None, 1, "0.44 (+0.04 [unknown])"),
    ],
)
def test_a_benchmark_with_a_task_of_few_questions_is_never_clear(
    tmp_path: Path, error: float | None, least: int, shown: str
) -> None:
    asked = {
        "benchmark": "balrog",
        "synthetic": True,
        "base": {"score": 40.0, "standard_error": error, "count": 50},
        "trained": {"score": 44.0, "standard_error": error, "count": 50},
        "chance": None,
        "difference": {"mean": 4.0, "standard_error": error, "count": 50, "paired": True, "least": least},
    }
    line = examined("Room", 0, Room=(1.0, 0.5)) | {"benchmarks": {"Games": asked}}
    (tmp_path / "cells.jsonl").write_text(json.dumps(line) + "\n")
    about = {"study": {"name": "mine"}, "cells": 1, "command": "vldac study mine"}
    (tmp_path / "study.json").write_text(json.dumps(about))
    _, base, trained = transfer.rows(results.read(tmp_path))
    assert trained[2] == shown
    assert base[2] == ("0.40 [unknown]" if error is None else "0.40 [0.38, 0.42]")
    assert report.write(tmp_path).exists()
