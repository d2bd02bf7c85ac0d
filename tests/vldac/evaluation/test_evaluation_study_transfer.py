"""What carries over, from results that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    assert (hall.trained, hall.base, hall.episodes) == (0.6, 0.3, (100, 200))  # one base model for both seeds
    assert hall.clear
    assert not hall.own
    assert of["Room"]["Room"].own
    assert not of["Room"]["Cards"].clear
    (tmp_path / "study.json").write_text(json.dumps(about | {"study": {"name": "mine", "base_per_seed": True}}))
    assert transfer.matrix(results.read(tmp_path))["Room"]["Hall"].episodes == (200, 200)  # a base model for each
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
