"""Tables, figures and selections of results that are made up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vldac.evaluation.study_lines import line
from vldac.evaluation.study import figures, report, results
from vldac.utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of two algorithms in two environments, three seeds, with an ablation and a grid."""
    lines = []
    for seed in range(3):
        for environment in ("Line", "Room"):
            lines.append(line("vldac", environment, seed, 0.95 + seed / 100))
            lines.append(line("rl4vlm", environment, seed, 0.7 + seed / 100))
        lines.append(line("vldac", "Line", seed, 0.6 + seed / 100, kind="ablation", variant="no KL"))
    for i, gamma in enumerate((0.8, 0.9)):
        lines.append(line("vldac", "Line", 0, 0.5 + i / 10, kind="grid", variant=f"gamma={gamma}"))
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    about = {"study": {"name": "mine"}, "cells": 20, "command": "vldac study mine"}
    (tmp_path / "study.json").write_text(json.dumps(about))
    return tmp_path


def rows(page: str, first: str) -> list[list[str]]:
    found = [[field.strip() for field in row.strip("|").split("|")] for row in page.splitlines() if row.startswith("|")]
    return [row for row in found if row[0] == first]


def test_the_page_has_every_number_with_its_n(folder: Path) -> None:
    page = report.write(folder).read_text()
    assert "`vldac study mine`; 17 of 20 cells have finished" in page
    assert "seeds 0, 1, 2; 200 evaluation episodes a run" in page
    assert "machine: x86_64, CPU, 2 cores" in page
    success, *_ = rows(page, "vldac")
    assert success[1:3] == ["0.960 [0.950, 0.970] (n 3)"] * 2
    assert re.fullmatch(r"0\.960 \[0\.95\d, 0\.96\d\] \(n 6\)", success[3])
    assert rows(page, "random policy")[0][1] == "0.450 [0.383, 0.519] (n 200)"
    assert ["vldac", "Line", "3 of 3", "48", "12 s", "16 s", "15 s (n 3)"] in rows(page, "vldac")
    assert ["rl4vlm", "Line", "0 of 3", "> 64", "> 16 s", "16 s", "15 s (n 3)"] in rows(page, "rl4vlm")
    assert ["rl4vlm", "Line, Room", "1.000 [1.000, 1.000] (n 12)"] in rows(page, "rl4vlm")
    ablation, while_learning = rows(page, "vldac, no KL")
    assert ablation[1:4] == ["Line", "0.610 [0.600, 0.620] (n 3)", "0.960 [0.950, 0.970] (n 3)"]
    assert while_learning[1:4] == ["Line", "0 of 3", "> 64"]
    assert ["vldac", "Line", "0.500", "0.550", "0.600", "gamma=0.9", "2"] in rows(page, "vldac")


def test_figures_are_there_in_both_formats_and_are_the_same_again(folder: Path) -> None:
    names = {"success", "profile", "curves", "improvement", "ablations", "ablation_curves", "grid"}
    assert figures.draw(folder, results.read(folder)).keys() == names
    before = {path.name: path.read_bytes() for path in folder.glob("*.[ps][nv]g")}
    assert before.keys() == {f"{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    figures.draw(folder, results.read(folder))
    assert {path.name: path.read_bytes() for path in folder.glob("*.[ps][nv]g")} == before


def test_a_band_begins_where_all_runs_have_a_value(folder: Path) -> None:
    lines = results.read(folder).select("main", "vldac")[:2]
    value, low, high = figures.band(lines, np.array([16.0, 40.0, 64.0]))
    assert np.isnan(value[0])
    assert value[1] == low[1] == high[1] == 0.5
    assert low[2] <= value[2] <= high[2]


def test_what_one_algorithm_alone_cannot_show_is_left_out(folder: Path) -> None:
    alone = [json.dumps(line("loop", "Line", 0, 0.5))]
    (folder / "cells.jsonl").write_text("\n".join(alone) + "\n")
    page = report.write(folder).read_text()
    assert "0.500 [one seed: no interval] (n 1)" in page
    assert "rivals" not in page
    assert "Ablations" not in page
    assert "grid" not in page


def written(folder: Path, lines: list[dict[str, Any]], **study: Any) -> str:
    (folder / "cells.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    about = {"study": {"name": "mine", **study}, "cells": len(lines), "command": "vldac study mine"}
    (folder / "study.json").write_text(json.dumps(about))
    return report.write(folder).read_text()


def test_an_environment_without_a_run_of_the_comparison_has_empty_cells(tmp_path: Path) -> None:
    alone = line("vldac", "Room", 0, 0.6, kind="ablation", variant="no KL")
    page = written(tmp_path, [line("vldac", "Line", 0, 0.9), alone])
    assert rows(page, "base model")[0][1:3] == ["0.500 [0.431, 0.569] (n 200)", ""]
    assert rows(page, "vldac")[0][2] == ""


def test_base_models_of_several_seeds_count_together(tmp_path: Path) -> None:
    def base(success: float) -> dict[str, Any]:
        return {"base": {"success": success, "success_ci": [0.0, 1.0], "episodes": 200}}

    lines = [line(name, "Line", seed, 0.9) | base(seed / 2) for seed in range(3) for name in ("vldac", "loop")]
    page = written(tmp_path, lines, base_per_seed=True)
    assert rows(page, "base model")[0][1] == "0.500 [0.460, 0.540] (n 600)"
    assert "those of the base models of all seeds together" in page
    page = written(tmp_path, lines)
    assert rows(page, "base model")[0][1].endswith("(n 200)")
    assert "together" not in page


def test_a_median_among_runs_that_never_reached_is_the_least_that_it_can_be(tmp_path: Path) -> None:
    def reached(seed: int, steps: int | None, end: float, seconds: float | None) -> dict[str, Any]:
        about = {"steps_to_threshold": steps, "environment_steps": 1000, "seconds_to_threshold": seconds}
        return line("vldac", "Line", seed, 0.9, **about, seconds=end)

    page = written(tmp_path, [reached(0, 100, 500.0, 400.0), reached(1, None, 150.0, None)])
    assert rows(page, "vldac")[1][3:5] == ["> 550", "> 275 s"]
    late = [reached(0, 100, 500.0, 400.0), reached(1, None, 150.0, None), reached(2, None, 150.0, None)]
    assert rows(written(tmp_path, late), "vldac")[1][3:5] == ["> 1000", "> 150 s"]


def test_no_results_are_a_line(folder: Path) -> None:
    (folder / "cells.jsonl").write_text("")
    with pytest.raises(UserError, match="no cell of the comparison has finished"):
        results.read(folder)
    (folder / "study.json").unlink()
    with pytest.raises(UserError, match=r"study\.json cannot be read"):
        results.read(folder)
