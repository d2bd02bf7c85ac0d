from __future__ import annotations

import math

import pytest
import torch
from algorithm_cases import CLIP, alone, log_ratios, make, rollout_tensors, surrogate, token_batch

from vldac.algorithms.base import TokenBatch


def batch() -> TokenBatch:
    """Responses whose last two tokens name the action; the third one names none."""
    made = token_batch()
    after = made.mask.sum(-1, keepdim=True) - torch.arange(made.mask.shape[1])
    action = made.mask & (after <= 2)
    action[2] = False
    return token_batch(action_mask=action)


@pytest.mark.parametrize("weight", [0.0, 0.35, 1.0])
def test_a_step_has_one_ratio_in_which_thoughts_have_their_weight(weight: float) -> None:
    made = batch()
    assert made.action_mask is not None
    actions = [sum(row) for row in made.action_mask.tolist()]
    assert 0 in actions
    ratios = []
    for row, tokens in zip(log_ratios(made), actions, strict=True):
        thoughts = len(row) - tokens
        ratios.append(math.exp(weight * sum(row[:thoughts]) + sum(row[thoughts:])))
    objective = [surrogate(r, a) for r, a in zip(ratios, made.advantages.tolist(), strict=True)]
    found = make("rl4vlm", {"thoughts_weight": weight}).policy_loss(made)
    assert found.ratios.tolist() == pytest.approx(ratios, rel=1e-9)
    assert float(found.loss) == pytest.approx(-sum(objective) / len(objective), rel=1e-9)
    clipped = sum(abs(r - 1) > CLIP for r in ratios) / len(ratios)
    assert float(found.metrics["policy/clip_fraction"]) == pytest.approx(clipped)
    assert 0 < clipped < 1


def test_a_response_without_an_action_is_learned_from_as_thoughts() -> None:
    made = batch()
    make("rl4vlm", {"thoughts_weight": 0.5}).policy_loss(made).loss.backward()
    gradient = made.log_probs.grad
    assert gradient is not None
    assert not gradient[~made.mask].any()
    ratio = math.exp(0.5 * sum(log_ratios(made)[2]))
    assert abs(ratio - 1) < CLIP  # not clipped
    expected = -0.5 * ratio * float(made.advantages[2]) / len(made.advantages)
    assert gradient[2][made.mask[2]].tolist() == pytest.approx([expected] * int(made.mask[2].sum()), rel=1e-9)


def test_it_aims_at_what_vldac_aims_at_and_shares_the_critics_gradient_unless_told_otherwise() -> None:
    rollout = rollout_tensors(6, 4)
    mine, other = (make(name).targets(rollout, alone) for name in ("rl4vlm", "vldac"))
    assert torch.equal(torch.stack(list(mine.advantages)), torch.stack(list(other.advantages)))
    assert not make("rl4vlm").stop_gradient
    assert make("rl4vlm", {"stop_gradient": True}).stop_gradient
    assert make("vldac").stop_gradient
    assert not make("vldac", {"stop_gradient": False}).stop_gradient
