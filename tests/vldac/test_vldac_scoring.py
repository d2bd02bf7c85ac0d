from __future__ import annotations

import pytest
import torch

from vldac.models.vlm import Scores
from vldac.scoring import KeptScores


@pytest.mark.parametrize("reads_tokens", [False, True])
def test_kept_scores_make_a_batch_of_any_steps_without_what_was_padding(reads_tokens: bool) -> None:
    mask = torch.arange(4) < torch.tensor([[2], [4], [1]])
    log_probs, entropies = torch.randn(3, 4).where(mask, 0.0), torch.randn(3, 4).where(mask, 0.0)
    states = torch.randn(3, 4, 5) if reads_tokens else torch.randn(3, 5)
    kept = KeptScores(reads_tokens=reads_tokens)
    kept.add([7, 3, 5], Scores(log_probs, mask, states, entropies))
    found = kept.of([5, 7], torch.device("cpu"))  # the first two positions are the longest of these
    rows = [2, 0]
    assert torch.equal(found.mask, mask[rows, :2])
    assert torch.equal(found.log_probs, log_probs[rows, :2])
    assert found.entropies is not None
    assert torch.equal(found.entropies, entropies[rows, :2])
    expected = states[rows, :2].where(mask[rows, :2, None], 0.0) if reads_tokens else states[rows]
    assert torch.equal(found.states, expected)
