from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vldac import warm_start
from vldac.config import ConfigError
from vldac.examples import PICTURES, collect, sources
from vldac.models.vlm import Prompt
from vldac.utils.files import content_hash

MIXTURE = {
    "pictures": 0.4,
    "mixture": [
        {"id": "GymCards-NumberLine-v0", "share": 2.0, "width": 32, "height": 32},
        {"id": "ALFWorld-Small-v0", "expert_walk": 1.0, "expert_actions": 0.5, "width": 32, "height": 32},
    ],
}


def test_shares_of_a_mixture_add_up_beside_the_pictures(tiny_config: Any) -> None:
    found = sources(tiny_config({"warm_start": MIXTURE}))
    assert [source.env_id for source in found] == ["GymCards-NumberLine-v0", "ALFWorld-Small-v0", PICTURES]
    assert [source.share for source in found] == pytest.approx([0.4, 0.2, 0.4])
    assert len({source.seed for source in found}) == 3
    assert not any(source.marks for source in found)


def test_the_run_itself_is_the_only_source_where_there_is_no_mixture(tiny_config: Any) -> None:
    (own,) = sources(tiny_config({"env": {"id": "GymCards-EZPoints-v0", "expert_start": 0.5}}))
    assert own.make_options["expert_start"] == 0.0  # of training: it decides no base model
    assert (own.env_id, own.share, own.questions) == ("GymCards-EZPoints-v0", 1, False)


def test_experts_take_part_where_the_mixture_says_so(tiny_config: Any) -> None:
    line, room, pictures = sources(tiny_config({"warm_start": MIXTURE}))
    assert all(example.expert is None for example in collect(line, 5))
    taught = collect(room, 5)
    assert all(example.expert_share == 0.5 for example in taught)
    assert all(example.expert in example.actions for example in taught)
    asked = collect(pictures, 5)
    assert all(len(example.actions) == 1 for example in asked)  # the right answer alone
    assert all(example.marks == () for example in asked)


def test_a_mixture_makes_the_same_base_whatever_the_run_learns_in(tiny_config: Any, tmp_path: Path) -> None:
    made = []
    for env_id in ("GymCards-NumberLine-v0", "GymCards-EZPoints-v0"):
        settings = {**MIXTURE, "updates": 2, "batch_size": 6, "dense_updates": 1}
        out = tmp_path / env_id / "base"
        measured = warm_start.run(tiny_config({"env": {"id": env_id}, "warm_start": settings}), out)
        made.append(content_hash(out))
        assert {f"true_descriptions/{name}" for name in ("GymCards-NumberLine-v0", PICTURES)} <= measured.keys()
        assert {"dense_recall", "legal_answers", "parameters"} <= measured.keys()
    assert made[0] == made[1]


def test_parts_of_a_batch_are_of_like_length() -> None:
    lengths = [5, 50, 6, 49, 7, 51]
    prompts = [Prompt(torch.zeros(length, dtype=torch.int64)) for length in lengths]
    targets = [torch.zeros(3, dtype=torch.int64)] * 6
    assert warm_start._parts(prompts, targets) == [[0, 2], [4, 3], [1, 5]]
    assert warm_start._parts(prompts[:2], targets[:2]) == [[0], [1]]


def test_a_wrong_part_of_a_mixture_is_a_line(tiny_config: Any) -> None:
    with pytest.raises(ConfigError, match=r"warm_start\.mixture\.0\.shares.*did you mean 'warm_start\.mixture\.share'"):
        tiny_config({"warm_start": {"mixture": [{"id": "GymCards-NumberLine-v0", "shares": 1.0}]}})
