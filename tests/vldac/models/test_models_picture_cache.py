from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import family_cases
import numpy as np
import pytest
import smolvlm_cases
import torch

from vldac.config import TinyConfig
from vldac.models import tiny
from vldac.models.conversation import Image
from vldac.models.picture_cache import PictureCache
from vldac.models.vlm import VLM

TEXTS = ["go there. user\n assistant\n"] * 5


@pytest.fixture(scope="module", params=("qwen2_vl", "qwen3_vl", "smolvlm", *family_cases.FAMILIES))
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VLM:
    directory: Path = tmp_path_factory.mktemp("models") / request.param
    if request.param == "smolvlm":
        smolvlm_cases.build(directory, TEXTS)
    elif request.param in family_cases.FAMILIES:
        family_cases.build(directory, request.param)
    else:
        tiny.build(TinyConfig(family=request.param, hidden_size=32, heads=2, kv_heads=1, layers=1), TEXTS, 0, directory)
    return VLM.from_pretrained(directory, max_pixels=4096)


def frames(simulator: int, length: int) -> list[Image]:
    rng = np.random.default_rng(simulator)
    return [rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(length)]


@pytest.fixture
def handed_over(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the family has encoded."""
    encode, counts = vlm.family.encode_pictures, list[int]()

    def counted(images: Sequence[Image]) -> Any:
        counts.append(len(images))
        return encode(images)

    monkeypatch.setattr(vlm.family, "encode_pictures", counted)
    return counts


def test_a_frame_is_encoded_once_and_every_prompt_is_what_it_was(vlm: VLM, handed_over: list[int]) -> None:
    episodes = [frames(simulator, 5) for simulator in range(2)]
    cache = PictureCache(vlm.family, 6)
    for last in range(5):
        # Three frames each, the first one repeated where there are no others yet.
        windows = [np.stack([episode[max(0, last - back)] for back in (2, 1, 0)]) for episode in episodes]
        found = vlm.encode(windows, ["go there.", "go"], cache)
        assert handed_over.pop() == 2  # the newest frame of each
        for prompt, expected in zip(found, vlm.encode(windows, ["go there.", "go"]), strict=True):
            assert torch.equal(prompt.input_ids, expected.input_ids)
            assert prompt.pictures.keys() == expected.pictures.keys()
            for name, tensor in prompt.pictures.items():
                assert torch.equal(tensor, expected.pictures[name])
        assert handed_over.pop() == 6
    assert vlm.encode(windows, ["go there.", "go"], cache)
    assert handed_over == []  # nothing new, nothing encoded


def test_pictures_that_were_not_shown_of_late_are_let_go(vlm: VLM, handed_over: list[int]) -> None:
    a, b, c = frames(3, 3)
    cache = PictureCache(vlm.family, 2)
    for images, new in (([a, b], 2), ([a], 0), ([c], 1), ([a, c], 0), ([b], 1), ([a, b, c], 1), ([a], 1)):
        handed_over.clear()
        cache(images)
        assert sum(handed_over) == new
        assert len(cache._known) == 2


def test_a_remembered_picture_keeps_no_other_in_memory(vlm: VLM) -> None:
    for picture in PictureCache(vlm.family, 2)(frames(4, 2)):
        for tensor in picture.tensors.values():
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_pictures_of_the_same_pixels_and_another_shape_are_two(vlm: VLM, handed_over: list[int]) -> None:
    (one,) = frames(5, 1)
    PictureCache(vlm.family, 2)([one, one.reshape(48, 32, 3), one.copy()])
    assert handed_over == [2]
