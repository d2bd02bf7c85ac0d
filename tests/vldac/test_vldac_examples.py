from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.base import Mark
from vldac import warm_start
from vldac.config import ConfigError
from vldac.evaluation.study.fingerprints import base_fingerprint
from vldac.examples import PICTURES, Example, collect, corpus, sources
from vldac.models.conversation import Message
from vldac.models.vlm import VLM, Prompt
from vldac.utils.errors import UserError
from vldac.utils.files import content_hash

MIXTURE = {
    "pictures": 0.4,
    "mixture": [
        {"id": "GymCards-NumberLine-v0", "share": 2.0, "width": 32, "height": 32},
        {"id": "ALFWorld-Small-v0", "expert_walk": 1.0, "expert_actions": 0.5, "width": 32, "height": 32},
    ],
}
OWN = f"{__name__}:OwnLessons"


class OwnLessons:
    """Two pictures with a text before the second one."""

    def __init__(self, *, prompt: str, size: int = 32) -> None:
        self.prompt, self.size = prompt, size

    def examples(self, seed: int) -> Iterator[Example]:
        for number in count():
            first, second = np.random.default_rng([seed, number]).integers(
                0, 256, (2, self.size, self.size, 3), np.uint8
            )
            messages = (Message("user", (first,)), Message("user", (f"which {self.prompt}?", second)))
            yield Example.of(messages, "noise", ("yes", "no"), (Mark("noise", 0.5, 0.5),), marked=0)


def with_lessons(**entry: Any) -> dict[str, Any]:
    return {**MIXTURE, "lessons": [{"id": OWN, **entry}]}


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
    assert warm_start._parts(prompts, targets, passes=2) == [[0, 2, 4], [3, 1, 5]]


def test_a_wrong_part_of_a_mixture_is_a_line(tiny_config: Any) -> None:
    with pytest.raises(ConfigError, match=r"warm_start\.mixture\.0\.shares.*did you mean 'warm_start\.mixture\.share'"):
        tiny_config({"warm_start": {"mixture": [{"id": "GymCards-NumberLine-v0", "shares": 1.0}]}})


def test_lessons_have_their_share_of_a_mixture(tiny_config: Any) -> None:
    found = sources(tiny_config({"warm_start": with_lessons(share=3.0)}))
    assert [source.share for source in found] == pytest.approx([0.2, 0.1, 0.3, 0.4])
    assert [source.lessons for source in found] == [False, False, True, False]
    assert len({source.seed for source in found}) == 4
    without = sources(tiny_config({"warm_start": MIXTURE}))
    assert [source.seed for source in found if not source.lessons] == [source.seed for source in without]


def test_lessons_are_made_with_their_options_and_the_style_of_prompts(tiny_config: Any) -> None:
    source = sources(tiny_config({"warm_start": with_lessons(options={"size": 48})}))[2]
    taught = collect(source, 3)
    assert [example.observation["frames"].shape for example in taught] == [(1, 48, 48, 3)] * 3
    assert taught[0].observation["prompt"] == "\nwhich terse?"
    assert (taught[0].observation["frames"][0] == taught[0].messages[0].images[0]).all()  # the marked one
    again, other = collect(source, 1), collect(sources(tiny_config({"seed": 1, "warm_start": with_lessons()}))[2], 1)
    assert (again[0].observation["frames"] == taught[0].observation["frames"]).all()
    assert not np.array_equal(other[0].observation["frames"], taught[0].observation["frames"])
    assert "\nwhich terse?" in corpus(taught)


def test_a_conversation_is_read_as_it_is_and_an_observation_as_ever(tiny_base: Path, tiny_config: Any) -> None:
    vlm = VLM.from_pretrained(tiny_base)
    (taught,) = collect(sources(tiny_config({"warm_start": with_lessons()}))[2], 1)
    (walked,) = collect(sources(tiny_config({"warm_start": MIXTURE}))[0], 1)
    of_lesson, of_walk = warm_start._prompts(vlm, [taught, walked])
    assert torch.equal(of_lesson.input_ids, vlm.encoder([taught.messages])[0].input_ids)
    (same,) = vlm.encode([walked.observation["frames"]], [walked.observation["prompt"]])
    assert torch.equal(of_walk.input_ids, same.input_ids)
    assert all(torch.equal(of_walk.pictures[name], same.pictures[name]) for name in same.pictures)


def test_a_model_is_taught_and_measured_in_its_lessons(tiny_config: Any, tmp_path: Path) -> None:
    settings = {**with_lessons(), "updates": 2, "batch_size": 6, "dense_updates": 1}
    measured = warm_start.run(tiny_config({"warm_start": settings}), tmp_path / "base")
    assert {f"true_descriptions/{OWN}", f"legal_answers/{OWN}"} <= measured.keys()


def test_lessons_decide_a_base_and_change_nothing_where_there_are_none(tiny_config: Any) -> None:
    without = tiny_config({"warm_start": MIXTURE})
    assert "lessons" not in without.deciding()["warm_start"]  # so that fingerprints are those of before
    made = [tiny_config({"warm_start": with_lessons(options={"size": size})}) for size in (32, 48)]
    assert len({base_fingerprint(each) for each in (without, *made)}) == 3
    assert len({each.fingerprint() for each in (without, *made)}) == 3


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"lessons": [{"id": OWN}]}, r"warm_start: lessons .* name its environments in warm_start\.mixture"),
        (
            with_lessons(id="my_lessons"),
            r"warm_start\.lessons\.0\.id: 'my_lessons' names no class; write 'module:Class'",
        ),
        (with_lessons(id="my lessons:Own"), r"warm_start\.lessons\.0\.id: .* write 'module:Class'"),
        (with_lessons(weight=1.0), r"unknown key 'warm_start\.lessons\.0\.weight'"),
        (with_lessons(share=0.0), r"warm_start\.lessons\.0\.share: should be greater than 0"),
    ],
)
def test_wrong_lessons_are_a_line(tiny_config: Any, settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        tiny_config({"warm_start": settings})


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"options": {"width": 8}}, r"warm_start\.lessons .*'width'; its options are size"),
        ({"id": "no_such_module:Lessons"}, "needs the module 'no_such_module'.* install it, or put its folder"),
        ({"id": f"{__name__}:Missing"}, "has no 'Missing'"),
    ],
)
def test_lessons_that_cannot_be_made_are_a_line(tiny_config: Any, entry: dict[str, Any], line: str) -> None:
    source = sources(tiny_config({"warm_start": with_lessons(**entry)}))[2]
    with pytest.raises(UserError, match=line):
        collect(source, 1)
