from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vldac.losses import clipped_policy_loss, clipped_surrogate, kl_penalty, outside, step_mean, value_loss

CLIP = 0.2


def batch(steps: int = 6, width: int = 5) -> dict[str, Tensor]:
    """Steps of 1 to `width` tokens; what stands behind a response's end is junk that no loss may read."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([1 + i % width for i in range(steps)])
    mask = torch.arange(width) < lengths[:, None]
    old = torch.randn(steps, width, generator=generator, dtype=torch.float64) - 2
    new = old + 0.5 * torch.randn(steps, width, generator=generator, dtype=torch.float64)
    reference = old + 0.5 * torch.randn(steps, width, generator=generator, dtype=torch.float64)
    advantages = torch.randn(steps, generator=generator, dtype=torch.float64)
    return {"new": new, "old": old, "reference": reference, "advantages": advantages, "mask": mask}


def rows(b: dict[str, Tensor], name: str) -> list[list[float]]:
    return [row[keep].tolist() for row, keep in zip(b[name], b["mask"], strict=True)]


def policy_loss(b: dict[str, Tensor], part: slice = slice(None)) -> Tensor:
    new, old, advantages, mask = (b[key][part] for key in ("new", "old", "advantages", "mask"))
    return clipped_policy_loss(new, old, advantages, mask, CLIP)[0]


def test_step_mean_is_a_mean_over_steps_of_a_mean_over_tokens() -> None:
    b = batch()
    slow = sum(sum(row) / len(row) for row in rows(b, "new")) / len(b["new"])
    assert float(step_mean(b["new"], b["mask"])) == pytest.approx(slow, abs=1e-12)


def test_policy_loss_equals_a_loop_over_tokens() -> None:
    b = batch()
    total = 0.0
    for new, old, advantage in zip(rows(b, "new"), rows(b, "old"), b["advantages"].tolist(), strict=True):
        step = 0.0
        for p, q in zip(new, old, strict=True):
            ratio = math.exp(p - q)
            step += min(ratio * advantage, min(max(ratio, 1 - CLIP), 1 + CLIP) * advantage)
        total += step / len(new)
    assert float(policy_loss(b)) == pytest.approx(-total / len(b["new"]), abs=1e-12)


def test_policy_ratios_are_one_outside_the_responses() -> None:
    b = batch()
    _, ratios = clipped_policy_loss(b["new"], b["old"], b["advantages"], b["mask"], CLIP)
    assert torch.equal(ratios[~b["mask"]], torch.ones_like(ratios[~b["mask"]]))
    assert torch.allclose(ratios[b["mask"]], (b["new"] - b["old"]).exp()[b["mask"]])


def test_kl_penalty_equals_a_loop_over_tokens() -> None:
    b = batch()
    total = 0.0
    for new, reference in zip(rows(b, "new"), rows(b, "reference"), strict=True):
        total += sum(math.exp(r - p) - (r - p) - 1 for p, r in zip(new, reference, strict=True)) / len(new)
    assert float(kl_penalty(b["new"], b["reference"], b["mask"])) == pytest.approx(total / len(b["new"]), abs=1e-12)


def test_kl_penalty_is_never_negative_and_zero_where_policies_agree() -> None:
    b = batch(64)
    for row in range(64):
        part = slice(row, row + 1)
        assert kl_penalty(b["new"][part], b["reference"][part], b["mask"][part]) >= 0
    assert kl_penalty(b["new"], b["new"], b["mask"]) == 0


def test_kl_penalty_is_the_exact_kl_divergence_in_expectation() -> None:
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    policy, reference = torch.log_softmax(logits, -1)
    exact = float((policy.exp() * (policy - reference)).sum())
    one = torch.ones(1, 1, dtype=torch.bool)
    expected = sum(
        float(p.exp() * kl_penalty(p.view(1, 1), r.view(1, 1), one)) for p, r in zip(policy, reference, strict=True)
    )
    assert expected == pytest.approx(exact, abs=1e-12)


def test_value_loss_is_half_the_mean_squared_error() -> None:
    values, returns = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 0.5])
    assert float(value_loss(values, returns)) == pytest.approx((1 + 9 + 0) / 6)


def test_losses_of_equal_micro_batches_average_to_the_loss_of_the_whole() -> None:
    b = batch(8)
    halves = (slice(0, 4), slice(4, 8))
    for loss in (
        lambda part: policy_loss(b, part),
        lambda part: kl_penalty(b["new"][part], b["reference"][part], b["mask"][part]),
        lambda part: value_loss(b["new"][part, 0], b["advantages"][part]),
    ):
        mean = sum(float(loss(half)) for half in halves) / 2
        assert mean == pytest.approx(float(loss(slice(0, 8))), abs=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.1, 1.0, True), (0.9, -1.0, True)],
)
def test_gradient_vanishes_exactly_where_the_clip_binds(ratio: float, advantage: float, moves: bool) -> None:
    log_probs = torch.full((1, 1), math.log(ratio), requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.bool)
    loss, _ = clipped_policy_loss(log_probs, torch.zeros(1, 1), torch.tensor([advantage]), one, CLIP)
    loss.backward()
    assert log_probs.grad is not None
    expected = -advantage * ratio if moves else 0.0
    assert float(log_probs.grad) == pytest.approx(expected, abs=1e-6)


def test_no_gradient_comes_from_outside_the_responses() -> None:
    b = batch()
    new = b["new"].clone().requires_grad_()
    loss, _ = clipped_policy_loss(new, b["old"], b["advantages"], b["mask"], 10.0)
    (loss + kl_penalty(new, b["reference"], b["mask"])).backward()
    assert new.grad is not None
    assert not new.grad[~b["mask"]].any()
    assert new.grad[b["mask"]].all()


def test_junk_outside_the_responses_never_reaches_a_loss() -> None:
    b = batch()
    junk = {k: v.masked_fill(~b["mask"], -torch.inf) if v.shape == b["mask"].shape else v for k, v in b.items()}
    junk["mask"] = b["mask"]
    assert policy_loss(junk) == policy_loss(b)
    penalties = [kl_penalty(x["new"], x["reference"], x["mask"]) for x in (junk, b)]
    assert penalties[0] == penalties[1]


def test_the_upper_limit_of_a_ratio_may_be_another_one() -> None:
    ratios, ones = torch.tensor([0.7, 0.85, 1.0, 1.25, 1.4]), torch.ones(5)
    assert torch.allclose(clipped_surrogate(ratios, ones, 0.2, 0.3), torch.tensor([0.7, 0.85, 1.0, 1.25, 1.3]))
    assert torch.allclose(clipped_surrogate(ratios, -ones, 0.2, 0.3), torch.tensor([-0.8, -0.85, -1.0, -1.25, -1.4]))
    assert outside(ratios, 0.2, 0.3).tolist() == [1, 0, 0, 0, 1]
    assert outside(ratios, 0.2).tolist() == [1, 0, 0, 1, 1]


def test_each_token_may_have_an_advantage_of_its_own() -> None:
    b = batch()
    shared = b["advantages"].unsqueeze(-1).expand_as(b["new"])
    same, _ = clipped_policy_loss(b["new"], b["old"], shared, b["mask"], CLIP)
    assert same == policy_loss(b)
