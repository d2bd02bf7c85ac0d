from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vldac.models.vlm import Scores
from vldac.scoring import KeptScores, Scorer


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


@pytest.mark.parametrize("budget", [None, 300])
def test_ranks_ask_each_other_as_often_whether_memory_has_run_out_on_one_or_not(budget: int | None) -> None:
    prompt, response = SimpleNamespace(input_ids=range(90)), SimpleNamespace(token_ids=range(10))
    steps: Any = [SimpleNamespace(prompt=prompt, response=response)] * 8
    asked = []
    for room in (8, 2):
        count = [0]

        def largest(value: float, count: list[int] = count) -> float:
            count[0] += 1
            return value

        scorer: Any = Scorer.__new__(Scorer)
        scorer.__dict__ |= {"micro": 4, "token_budget": budget, "lowered": None}
        scorer.vlm, scorer.runtime = SimpleNamespace(lockstep=False), SimpleNamespace(max=largest)

        def scored(_policy: Any, part: Any, *, entropies: bool, room: int = room) -> Any:
            if len(part) > room:
                raise torch.OutOfMemoryError
            return [], None

        scorer._log_probs = scored
        sizes = [[len(part) for part, *_ in scorer._passes(None, steps)] for _ in range(2)]
        whole = [4, 4] if budget is None else [3, 3, 2]
        assert sizes[0] == (whole if room == 8 else [2] * 4)
        assert sizes[1] == sizes[0]
        asked.append(count[0])
    assert asked[0] == asked[1] == (0 if budget is None else 2)
