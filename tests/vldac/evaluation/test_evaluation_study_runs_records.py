"""Cells as directories and lines of results; `test_evaluation_studies.py` of the pipelines runs them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vldac.config import Config
from vldac.evaluation.study import config, matrix, records, runs
from vldac.utils.errors import UserError
from vldac.utils.files import write_json


class Named(runs.Surroundings):
    """Code of which only the name matters."""

    def __init__(self, name: str) -> None:
        self.name = name

    def code(self, config: Config) -> str:
        return self.name

    def benchmark_code(self, name: str, config: Config) -> str:
        return self.name


@pytest.fixture
def study(tiny_params_file: Any) -> config.Study:
    grid = {"values": {"train.gamma": [0.95, 0.5]}}
    values = {"params": str(tiny_params_file()), "environments": [{"name": "Line"}], "algorithms": ["vldac"]}
    return config.Study.model_validate({**values, "seeds": [0], "grid": grid})


def test_a_directory_is_named_after_what_decides_its_result(study: config.Study, tmp_path: Path) -> None:
    main, same, other = runs.place(matrix.cells(study), tmp_path, Named("a"))
    assert main.home == same.home  # gamma is .95 as it is
    assert main.home != other.home
    assert main.base == other.base
    edited, *_ = runs.place(matrix.cells(study), tmp_path, Named("b"))
    assert edited.home != main.home
    assert edited.base != main.base
    other_base = replace(main.cell, base_config=main.cell.config.model_copy(update={"seed": 9}))
    (third,) = runs.place([other_base], tmp_path, Named("a"))
    assert third.home != main.home  # from another base model, with the same parameters
    shorter = study.model_copy(update={"episodes": 3})
    (evaluated, *_) = runs.place(matrix.cells(shorter), tmp_path, Named("a"))
    assert evaluated.home == main.home  # trained once
    assert evaluated.result != main.result


def test_a_curve_is_success_over_complete_cohorts() -> None:
    rows = [
        {"environment_steps": 16, "time_s": 1.0},
        {"environment_steps": 32, "time_s": 2.5, "episode/success_last_100": 0.5, "episode/success_last_100_count": 4},
    ]
    assert records.learning_curve(rows) == {
        "environment_steps": [16, 32],
        "success": [None, 0.5],
        "episodes": [0, 4],
        "seconds": [1.0, 2.5],
    }


def finish(run: runs.Run, success: float) -> None:
    """Leaves what training and evaluation leave."""
    score = {"success": success, "success_ci": [0.1, 0.9], "episodes": 200}
    for path in run.base_evaluations:
        write_json(path, {"base": score, "random": score})
    for path in run.evaluations:
        write_json(path, {"trained": score})
    write_json(run.home / "usage.json", {"attempts": 1, "wall_s": 3.0, "cpu_s": 2.0})
    run.metrics.parent.mkdir(parents=True)
    at = [(16, 0.5, 60), (32, 0.92, 40), (48, 0.93, 80), (64, 0.99, 100)]
    names = ("episode/success_last_100", "episode/success_last_100_count")
    rows = [{"environment_steps": s, "time_s": s / 4, names[0]: v, names[1]: n} for s, v, n in at]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_line_of_results_says_when_the_threshold_was_reached_and_on_what(study: config.Study, tmp_path: Path) -> None:
    (run, *_) = runs.place(matrix.cells(study), tmp_path, Named("a"))
    finish(run, 0.8)
    line = records.describe(study, run, Named("a"))
    assert (line["steps_to_threshold"], line["seconds_to_threshold"]) == (48, 12.0)  # 40 episodes are too few
    assert (line["seconds"], line["cpu_seconds"], line["trained"]["success"]) == (16.0, 2.0, 0.8)
    assert {"torch", "transformers", "python"} <= line["versions"].keys()
    assert line["machine"]["cores"] > 0
    never = records.describe(study.model_copy(update={"threshold": 1.0}), run, Named("a"))
    assert never["steps_to_threshold"] is None


def test_results_are_a_line_a_finished_cell_in_both_formats(study: config.Study, tmp_path: Path) -> None:
    placed = runs.place(matrix.cells(study), tmp_path, Named("a"))
    finish(placed[0], 0.8)
    write_json(placed[0].result, records.describe(study, placed[0], Named("a")))
    lines = records.write_results(study, placed, tmp_path / "out")
    assert [(line["kind"], line["variant"]) for line in lines] == [("main", ""), ("grid", "gamma=0.95")]
    assert records.read_lines(tmp_path / "out/cells.jsonl") == lines
    with (tmp_path / "out/cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trained.success"] for row in rows] == ["0.8", "0.8"]
    assert not any(name.startswith("curve") for name in rows[0])


def test_results_that_are_there_are_taken_over_where_nothing_has_been_run(study: config.Study, tmp_path: Path) -> None:
    there = runs.place(matrix.cells(study), tmp_path / "there", Named("a"))
    finish(there[0], 0.8)
    write_json(there[0].result, records.describe(study, there[0], Named("a")))
    lines = records.write_results(study, there, tmp_path / "out")
    here = runs.place(matrix.cells(study), tmp_path / "here", Named("a"))
    assert records.adopt(study, here, tmp_path / "out") == 1  # both lines are of one cell
    assert json.loads(here[0].result.read_text()) == json.loads(there[0].result.read_text())
    assert records.write_results(study, here, tmp_path / "out") == lines
    assert records.adopt(study, here, tmp_path / "out") == 0
    for other in (runs.place(matrix.cells(study), tmp_path / "new", Named("edited")), here[2:]):
        assert records.adopt(study, other, tmp_path / "out") == 0  # of other code, or another cell
    assert records.adopt(study, here, tmp_path / "nowhere") == 0
    # What is not asked for now, of other code or other seeds, is kept and comes back.
    edited = runs.place(matrix.cells(study), tmp_path / "edited", Named("b"))
    records.adopt(study, edited, tmp_path / "out")
    records.write_results(study, edited, tmp_path / "out")
    assert records.read_lines(tmp_path / "out/cells.jsonl") == []
    assert records.read_lines(tmp_path / "out/cells.others.jsonl") == lines
    back = runs.place(matrix.cells(study), tmp_path / "back", Named("a"))
    assert records.adopt(study, back, tmp_path / "out") == 1
    assert records.write_results(study, back, tmp_path / "out") == lines
    assert records.read_lines(tmp_path / "out/cells.others.jsonl") == []
    stricter = runs.place(matrix.cells(study), tmp_path / "strict", Named("a"), threshold=0.99)
    assert records.adopt(study, stricter, tmp_path / "out") == 0  # its steps to the threshold are others


def test_exams_are_not_of_the_grid_and_of_the_seed_of_their_policy(study: config.Study, tmp_path: Path) -> None:
    values = study.model_dump() | {"seeds": [0, 1], "exam_episodes": 7}
    values["exams"] = [{"name": "Cards", "overrides": {"env.id": "GymCards-EZPoints-v0"}}]
    asked = config.Study.model_validate(values)
    first, second, *grid = runs.place(matrix.cells(asked), tmp_path, Named("a"))
    exam = second.cell.exams["Cards"]
    assert (exam.env.id, exam.evaluate.episodes, exam.seed) == ("GymCards-EZPoints-v0", 7, 1)
    assert second.cell.config.env.id != exam.env.id
    assert not any(run.cell.exams for run in grid)
    assert first.base_evaluations.keys() == second.base_evaluations.keys()  # one base model, examined once
    assert len(first.base_evaluations) == 2
    (unasked, *_) = runs.place(matrix.cells(study), tmp_path, Named("a"))
    assert unasked.home == first.home  # trained once
    assert unasked.result != first.result
    fewer = asked.model_copy(update={"exam_episodes": 3})
    assert runs.place(matrix.cells(fewer), tmp_path, Named("a"))[0].result != first.result
    renamed = config.Study.model_validate(values | {"exams": [{**values["exams"][0], "name": "Other"}]})
    assert runs.place(matrix.cells(renamed), tmp_path, Named("a"))[0].result != first.result
    (higher, *_) = runs.place(matrix.cells(asked), tmp_path, Named("a"), threshold=0.5)
    assert (higher.home, higher.result == first.result) == (first.home, False)
    finish(first, 0.8)
    line = records.describe(asked, first, Named("a"))
    assert line["exams"]["Cards"].keys() == {"trained", "base", "random"}


def test_benchmarks_are_put_to_the_base_model_once_and_compared_with_each_policy(
    study: config.Study, tmp_path: Path
) -> None:
    values = study.model_dump() | {"seeds": [0, 1]}
    asked = ["understanding", {"name": "vsi_bench", "label": "Videos", "overrides": {"benchmarks.limit": 2}}]
    first, second, *grid = runs.place(
        matrix.cells(config.Study.model_validate(values | {"benchmarks": asked})), tmp_path, Named("a")
    )
    (unasked, *_) = runs.place(matrix.cells(study), tmp_path, Named("a"))
    assert (first.home, first.result == unasked.result) == (unasked.home, False)  # trained once
    assert not any(run.benchmarks for run in grid)
    videos = first.benchmarks["Videos"]
    assert (videos.name, videos.config.benchmarks["limit"]) == ("vsi_bench", 2)
    assert videos.key == second.benchmarks["Videos"].key
    assert videos.summary(first.base) == second.benchmarks["Videos"].summary(second.base)
    fewer = [asked[0], {"name": "vsi_bench", "label": "Videos", "overrides": {"benchmarks.limit": 1}}]
    (other, *_) = runs.place(
        matrix.cells(config.Study.model_validate(values | {"benchmarks": fewer})), tmp_path, Named("a")
    )
    assert other.benchmarks["Videos"].key != videos.key
    assert other.benchmarks["understanding"].key == first.benchmarks["understanding"].key

    finish(first, 0.8)
    assert not first.base_is_measured
    for each in first.benchmarks.values():
        write_json(each.summary(first.base), {})
    assert first.base_is_measured
    side = {"score": 40.0, "standard_error": 5.0, "count": 90, "metrics": {"chance": 32.0}}
    difference = {"mean": 2.5, "standard_error": 1.0, "count": 90, "paired": True, "interval": [0.5, 4.5]}
    after = {**side, "score": 42.5, "metrics": {}}
    overall = {"before": side, "after": after, "difference": difference, "synthetic": True}
    for label, each in first.benchmarks.items():
        write_json(first.comparison(label), {"benchmarks": {each.name: {"overall": overall}}})
    found = records.describe(study, first, Named("a"))["benchmarks"]
    assert list(found) == ["understanding", "Videos"]
    assert (found["Videos"]["benchmark"], found["Videos"]["chance"], found["Videos"]["synthetic"]) == (
        "vsi_bench",
        32.0,
        True,
    )
    assert (found["Videos"]["trained"]["score"], found["Videos"]["difference"]["mean"]) == (42.5, 2.5)


def test_damaged_results_are_a_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing; run the study first"):
        records.read_lines(tmp_path / "cells.jsonl")
    (tmp_path / "cells.jsonl").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        records.read_lines(tmp_path / "cells.jsonl")
