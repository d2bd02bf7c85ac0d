"""The cells that follow from a study, and how mistakes in their configuration are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vldac.algorithms.registry import ALGORITHMS
from vldac.config import ConfigError
from vldac.evaluation.study import config, matrix
from vldac.evaluation.study.fingerprints import base_fingerprint
from vldac.utils.errors import UserError

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def study(tiny_params_file: Any) -> Any:
    """A function from changes to a small study."""
    values = {
        "params": str(tiny_params_file()),
        "environments": [{"name": "Line"}, {"name": "Blackjack", "overrides": {"env.id": "GymCards-Blackjack-v0"}}],
        "algorithms": ["vldac", {"name": "vldac", "label": "raw", "options": {"normalize_advantages": False}}],
        "seeds": [0, 1],
    }
    return lambda changes: config.Study.model_validate({**values, **changes})


def test_cells_are_the_product_and_share_the_base_model_of_their_environment(study: Any) -> None:
    cells = matrix.cells(study({"episodes": 7, "total_steps": 48}))
    assert [str(cell) for cell in cells[:3]] == ["Line, vldac, seed 0", "Line, raw, seed 0", "Line, vldac, seed 1"]
    assert len(cells) == 8
    assert {(cell.config.evaluate.episodes, cell.config.train.total_steps) for cell in cells} == {(7, 48)}
    assert {cell.config.env.id for cell in cells[4:]} == {"GymCards-Blackjack-v0"}
    assert [cell.config.train.algorithm_options for cell in cells[:2]] == [{}, {"normalize_advantages": False}]
    assert len({base_fingerprint(cell.base_config) for cell in cells}) == 2
    assert len({cell.config.fingerprint() for cell in cells}) == 8


def test_some_of_the_cells_are_chosen_by_their_lines(study: Any) -> None:
    cells = matrix.cells(study({}))
    assert [str(cell) for cell in matrix.chosen(cells, ["LINE, raw", "blackjack, vldac, seed 1"])] == [
        *("Line, raw, seed 0", "Line, raw, seed 1", "Blackjack, vldac, seed 1"),
    ]
    assert matrix.chosen(cells, ["main"]) == cells
    with pytest.raises(UserError, match=r"^--only 'grid': no cell has it in its line; --dry-run prints them all$"):
        matrix.chosen(cells, ["line", "grid"])


def test_a_base_model_a_seed(study: Any) -> None:
    cells = matrix.cells(study({"base_per_seed": True}))
    assert {cell.base_config.seed for cell in cells} == {0, 1}
    assert len({base_fingerprint(cell.base_config) for cell in cells}) == 4


def test_ablations_change_one_algorithm_where_they_are_told_to(study: Any) -> None:
    ablation = {"name": "no KL", "overrides": {"train.kl_coefficient": 0.0}, "environments": ["Line"]}
    options = {"name": "whole", "algorithm": "raw", "options": {"normalize_advantages": True}}
    cells = [cell for cell in matrix.cells(study({"ablations": [ablation, options]})) if cell.kind == "ablation"]
    assert [(cell.environment, cell.seed) for cell in cells] == [
        (environment, seed) for seed in (0, 1) for environment in ("Line", "Line", "Blackjack")
    ]
    assert cells[0].config.train.kl_coefficient == 0.0
    assert cells[1].config.train.algorithm_options == {"normalize_advantages": True}


def test_the_grid_is_the_same_for_every_algorithm(study: Any) -> None:
    values = {"train.learning_rate": [5e-4, 1e-5], "train.gamma": [0.8]}
    grid = {"values": values, "overrides": {"train.final_learning_rate": 0.0}, "environments": ["Line"]}
    cells = [cell for cell in matrix.cells(study({"grid": grid})) if cell.kind == "grid"]
    assert [(cell.algorithm, cell.variant) for cell in cells[:3]] == [
        ("vldac", "learning_rate=0.0005"),
        ("vldac", "learning_rate=1.0e-05"),
        ("vldac", "gamma=0.8"),
    ]
    assert [cell.variant for cell in cells[:3]] == [cell.variant for cell in cells[3:]]
    assert cells[1].config.train.learning_rate == 1e-5
    assert len(config.Grid.model_validate({"values": values, "product": True}).points()) == 2


def test_overrides_of_an_algorithm_in_an_environment_and_the_last_word(study: Any) -> None:
    environment = {"name": "Line", "algorithms": {"raw": {"rollout.steps": 8}}}
    cells = matrix.cells(study({"environments": [environment]}), ["train.gamma=0.5"])
    assert [cell.config.rollout.steps for cell in cells] == [4, 8, 4, 8]
    assert {cell.config.train.gamma for cell in cells} == {0.5}


def test_a_wrong_override_names_its_cell(study: Any) -> None:
    with pytest.raises(ConfigError, match=r"Line, vldac, odd: .*unknown key 'train.gama'; did you mean 'train.gamma'"):
        matrix.cells(study({"ablations": [{"name": "odd", "overrides": {"train.gama": 1}}]}))


def test_a_preset_that_would_undo_what_every_cell_shares_is_refused(study: Any) -> None:
    everywhere = {"train.stop_at": None}
    whole = [{"name": "vldac", "overrides": {"train": {"gamma": 0.5}}}]
    with pytest.raises(ConfigError, match=r"Line, vldac: train replaces its whole section, and with it train\.stop_at"):
        matrix.cells(study({"overrides": everywhere, "algorithms": whole}))
    with pytest.raises(ConfigError, match=r"with it train\.total_steps"):
        matrix.cells(study({"total_steps": 16, "algorithms": whole}))
    first = {"train": {"gamma": 0.5, "batch_size": 8, "micro_batch_size": 8}, **everywhere}
    (cell, *_) = matrix.cells(study({"overrides": first, "algorithms": ["vldac"]}))
    assert (cell.config.train.gamma, cell.config.train.stop_at) == (0.5, None)


@pytest.mark.parametrize(
    ("profile", "most"), [("smoke", 1 / 6), ("laptop", 3.0), ("laptop-ablations", 3.0), ("full", float("inf"))]
)
def test_the_profiles_that_come_along(profile: str, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    study = config.read(config.find(profile))
    assert {entry.name for entry in study.algorithms} <= {*ALGORITHMS.names()}
    assert matrix.hours(matrix.cells(study), study, jobs=2) < most
