from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.base import Mark
from vldac import dense_labels
from vldac.examples import Example, collect, corpus, sources
from vldac.models import tiny
from vldac.models.vlm import VLM
from vldac.utils.errors import UserError


@pytest.fixture(scope="module")
def examples(tiny_config: Any) -> list[Example]:
    config = tiny_config({"warm_start": {"dense_updates": 1}})
    return collect(sources(config)[0], 120)


@pytest.fixture
def vlm(tiny_config: Any, examples: list[Example], tmp_path: Path) -> VLM:
    return VLM.from_pretrained(tiny.build(tiny_config().model.tiny, corpus(examples), 0, tmp_path / "base")).train()


def test_labels_are_the_words_of_what_lies_in_each_visual_token(vlm: VLM, examples: list[Example]) -> None:
    head = dense_labels.WordHead(vlm, ["red box", "blue box"])
    marks = (Mark("red box", 0.1, 0.9), Mark("blue box", 0.99, 0.0), Mark("red box", 1.0, 0.4))
    shown = head.labels(replace(examples[0], marks=marks), 2, 3).reshape(2, 3, -1)
    slow = np.zeros_like(shown)
    for row, column, words in ((1, 0, ("red", "box")), (0, 2, ("blue", "box", "red"))):
        for word in words:
            slow[row, column, sorted(["red", "blue", "box"]).index(word)] = 1
    assert np.array_equal(shown, slow)


def test_a_visual_token_scores_a_word_by_the_angle_to_its_embedding(vlm: VLM) -> None:
    head = dense_labels.WordHead(vlm, ["4", "target"])
    table = vlm.backbone.get_input_embeddings().weight.detach()
    (token,) = vlm.tokenizer(" target", add_special_tokens=False)["input_ids"]
    along, against = head(torch.stack([3 * table[token], -table[token]]))[:, head.words["target"]].tolist()
    assert along == pytest.approx(6.0, abs=1e-4)
    assert against == pytest.approx(-14.0, abs=1e-4)


def test_the_tower_learns_what_lies_where_and_the_language_model_stays(vlm: VLM, examples: list[Example]) -> None:
    before = {name: value.clone() for name, value in vlm.state_dict().items()}
    start = dense_labels.teach(vlm, examples, updates=1, batch_size=8, learning_rate=0.0, seed=0)
    learned = dense_labels.teach(vlm, examples, updates=60, batch_size=16, learning_rate=5e-3, seed=0)
    assert learned["dense_recall"] > max(0.5, start["dense_recall"])
    changed = {name for name, value in vlm.state_dict().items() if not torch.equal(value, before[name])}
    assert any(".visual." in name for name in changed)
    table = {name for name in changed if ".visual." not in name}
    assert all("embed_tokens" in name or "lm_head" in name for name in table)
    lengths = vlm.backbone.get_input_embeddings().weight.detach().norm(dim=-1)
    assert lengths.mean() == pytest.approx(1.0, abs=1e-4)


def test_examples_without_marks_are_refused(vlm: VLM, examples: list[Example]) -> None:
    blank = [replace(example, marks=()) for example in examples]
    with pytest.raises(UserError, match="set it to 0"):
        dense_labels.teach(vlm, blank, updates=1, batch_size=2, learning_rate=1e-3, seed=0)
