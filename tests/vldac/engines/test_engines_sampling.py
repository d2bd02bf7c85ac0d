from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from vldac.engines.sampling import Sampler, draw, uniforms


def test_uniforms_depend_on_their_seed_alone_and_fewer_are_the_first_of_more() -> None:
    together = uniforms([3, 9, 2**63 - 1], 5)
    assert together.dtype == torch.float64
    assert ((together >= 0) & (together < 1)).all()
    for row, seed in zip(together, [3, 9, 2**63 - 1], strict=True):
        assert torch.equal(uniforms([seed], 5)[0], row)
        assert torch.equal(uniforms([seed], 2)[0], row[:2])


def test_a_token_is_the_first_whose_cumulative_probability_exceeds_the_number() -> None:
    probabilities = [0.0, 0.25, 0.0, 0.5, 0.25, 0.0]
    log_probs = torch.tensor([probabilities] * 6, dtype=torch.float64).log()
    numbers = torch.tensor([0.0, 0.2499999, 0.25, 0.7499999, 0.75, 1 - 2**-53], dtype=torch.float64)
    slow = [next(i for i in range(6) if sum(probabilities[: i + 1]) > u) for u in numbers.tolist()]
    assert draw(log_probs, numbers).squeeze(-1).tolist() == slow == [1, 1, 3, 3, 4, 4]


@pytest.mark.parametrize("size", [7, 152_000])
def test_no_token_of_probability_zero_is_ever_drawn(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4, size, generator=generator)
    logits[:, ::2] = -torch.inf
    log_probs = torch.log_softmax(logits, -1)
    for numbers in ([0.0] * 4, [1 - 2**-53] * 4, torch.rand(4, generator=generator).tolist()):
        chosen = draw(log_probs, torch.tensor(numbers, dtype=torch.float64))
        assert (log_probs.gather(-1, chosen) > -torch.inf).all()


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.1, 0.0, 0.45, 0.05, 0.4])
    chosen = draw(probabilities.log().expand(4000, -1), uniforms(range(4000), 1)[:, 0]).squeeze(-1)
    counts = Counter(chosen.tolist())
    kept = [0, 2, 3, 4]
    expected = np.array([float(probabilities[i]) for i in kept])
    assert chisquare([counts[i] for i in kept], 4000 * expected / expected.sum()).pvalue > 1e-3


def test_the_sampler_leaves_one_choice_and_notes_its_log_probability() -> None:
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    sampler = Sampler(lambda scores: torch.log_softmax(scores, -1), uniforms([5, 6], 3))
    left = [sampler(torch.zeros(2, 1), logits) for _ in range(3)]
    for number, row in enumerate(left):
        assert (row > -torch.inf).sum(-1).tolist() == [1, 1]
        chosen = row.argmax(-1, keepdim=True)
        assert torch.equal(chosen, draw(torch.log_softmax(logits, -1), uniforms([5, 6], 3)[:, number]))
        assert torch.equal(sampler.log_probs[number], torch.log_softmax(logits, -1).gather(-1, chosen).squeeze(-1))
    greedy = Sampler(lambda scores: torch.log_softmax(scores, -1), None)(torch.zeros(2, 1), logits)
    assert greedy.argmax(-1).tolist() == logits.argmax(-1).tolist()
