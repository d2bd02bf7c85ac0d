"""LOOP and GRPO: what an episode is worth beside its group, and what is made of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from algorithm_cases import alone, log_ratios, make, rollout_tensors, surrogate, token_batch, token_ratios

from vldac.algorithms.base import RolloutTensors, TokenBatch

K = 3


def by_hand(rollout: RolloutTensors, gamma: float, worth: Any) -> list[list[float]]:
    """Advantages (T, N): episodes are walked one by one, and `worth` compares a return with all of its group."""
    steps, columns = rollout.rewards.shape
    result = [[0.0] * columns for _ in range(steps)]
    ended: dict[tuple[int, int], dict[int, float]] = {}  # by group and number of the episode: simulator -> return
    for n in range(columns):
        total, age = 0.0, 0
        for t in range(steps):
            total += gamma**age * float(rollout.rewards[t, n])
            age += 1
            if rollout.terminated[t, n] or rollout.truncated[t, n]:
                ended.setdefault((n // K, int(rollout.episodes[t, n])), {})[n] = total
                total, age = 0.0, 0
    for t in range(steps):
        for n in range(columns):
            group = ended.get((n // K, int(rollout.episodes[t, n])), {})
            if n in group and len(group) > 1:
                others = [value for other, value in group.items() if other != n]
                result[t][n] = worth(group[n], others)
    return result


def left_out(own: float, others: list[float]) -> float:
    return own - sum(others) / len(others)


def centered(own: float, others: list[float]) -> float:
    return own - (own + sum(others)) / (1 + len(others))


def scaled(own: float, others: list[float]) -> float:
    everyone = [own, *others]
    mean = sum(everyone) / len(everyone)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in everyone) / (len(everyone) - 1))
    return (own - mean) / (deviation + 1e-4)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize(
    ("name", "options", "worth"),
    [("loop", {}, left_out), ("grpo", {}, scaled), ("grpo", {"scale": False}, centered)],
    ids=["leave one out", "scaled", "not scaled"],
)
def test_the_steps_of_an_episode_have_its_return_beside_those_of_its_group(
    name: str, options: dict[str, Any], worth: Any, gamma: float
) -> None:
    rollout = rollout_tensors(9, 2 * K)
    expected = torch.tensor(by_hand(rollout, gamma, worth))
    assert 0.2 < float((expected == 0).float().mean()) < 0.8  # episodes that count and such that do not
    algorithm = make(name, {"group_size": K, **options}, gamma=gamma)
    targets = algorithm.targets(replace(rollout, values=(), next_values=torch.zeros(9, 2 * K)), alone)
    assert torch.allclose(torch.stack(list(targets.advantages)).view(9, -1), expected, atol=1e-5)
    assert not targets.returns
    assert algorithm.group_size == K
    assert algorithm.whole_episodes
    assert not algorithm.uses_critic


def test_leave_one_out_is_k_over_k_minus_1_of_the_distance_from_the_mean() -> None:
    column = torch.tensor([[1.0, 0.0, 0.0, 4.0]])
    everything = torch.ones(1, 4, dtype=torch.bool)
    rollout = replace(rollout_tensors(1, 4), rewards=column, terminated=everything, truncated=~everything, values=())
    advantages = torch.stack(list(make("loop", {"group_size": 4}).targets(rollout, alone).advantages))
    assert torch.allclose(advantages, 4 / 3 * (column - column.mean()).flatten())


def test_what_has_not_ended_is_measured() -> None:
    # Simulator 0 ends at once and again at the last step, 1 only at the last; 2 and 3 return the same; 4 never ends.
    ends = torch.tensor([[1, 0, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]).bool()
    rollout = replace(
        rollout_tensors(3, 6),
        rewards=torch.tensor([[1.0, 0, 2, 2, 5, 9], [0, 0, 0, 0, 5, 0], [0, 0, 0, 0, 5, 0]]),
        terminated=ends,
        truncated=torch.zeros_like(ends),
        episodes=torch.cat([torch.zeros(1, 6, dtype=torch.int64), ends.long().cumsum(0)[:-1]]),
    )
    targets = make("loop", {"group_size": 2}).targets(rollout, alone)
    assert float(targets.metrics["rollout/incomplete_episode_steps"]) == pytest.approx((1 + 1 + 3 + 2) / 18)
    # Of the rest, only the first episodes of simulators 0 and 1 differ: 1 step and 3 steps with an advantage.
    assert float(targets.metrics["rollout/zero_advantage_steps"]) == pytest.approx(14 / 18)


def test_an_episode_that_is_lost_with_its_simulator_counts_for_nobody() -> None:
    rewards, ends = torch.tensor([[1.0, 0.0, 3.0, -9.0]]), torch.tensor([[True, True, True, False]])
    lost = ~ends
    rollout = replace(rollout_tensors(1, 4), rewards=rewards, terminated=ends, truncated=lost, lost=lost, values=())
    advantages = torch.stack(list(make("loop", {"group_size": 4}).targets(rollout, alone).advantages))
    assert torch.allclose(advantages, torch.tensor([1 - 1.5, 0 - 2.0, 3 - 0.5, 0.0]))


@pytest.mark.parametrize("level", ["token", "step", "episode"])
def test_loop_clips_at_the_level_of_its_ratio(level: str) -> None:
    made = token_batch()
    whole = torch.tensor([0.1, 0.1, -0.3, 0.05, 0.3, 0.3, -0.1, 0.0]).double()
    made = replace(made, episode_log_ratios=whole)
    steps = []
    for number, (row, advantage) in enumerate(zip(log_ratios(made), made.advantages.tolist(), strict=True)):
        if level == "token":
            steps.append(sum(surrogate(math.exp(x), advantage) for x in row) / len(row))
        else:
            steps.append(surrogate(math.exp(sum(row) if level == "step" else float(whole[number])), advantage))
    found = make("loop", {"ratio": level}).policy_loss(made)
    assert float(found.loss) == pytest.approx(-sum(steps) / len(steps), rel=1e-9)
    assert make("loop", {"ratio": level}).ratio_level == level


def test_the_gradient_at_episode_level_is_that_of_the_product_of_all_its_ratios() -> None:
    made = token_batch(9)
    episodes = [0, 0, 1, 1, 1, 2, 3, 3, 3]
    advantages = torch.tensor([1.5, -0.7, 0.4, -1.1]).double()[episodes]
    sums = torch.where(made.mask, made.log_probs - made.old_log_probs, 0.0).sum(-1)
    products = torch.stack([sums[[e == k for e in episodes]].sum() for k in range(4)]).exp()
    assert 0 < sum(abs(float(r) - 1) > 0.2 for r in products) < 4  # some are clipped
    each = torch.minimum(products * advantages[[0, 2, 5, 6]], products.clamp(0.8, 1.2) * advantages[[0, 2, 5, 6]])
    (expected,) = torch.autograd.grad(-each.sum() / 9, made.log_probs)
    given = replace(made, advantages=advantages, episode_log_ratios=products.log().detach()[episodes])
    (found,) = torch.autograd.grad(make("loop", {"ratio": "episode"}).policy_loss(given).loss, made.log_probs)
    assert found.any()
    assert torch.allclose(found, expected, atol=1e-12)


def grpo_by_hand(made: TokenBatch, advantages: list[float], divisors: list[float], higher: float) -> float:
    rows = zip(token_ratios(made), advantages, divisors, strict=True)
    steps = [sum(surrogate(r, advantage, higher) for r in row) / divisor for row, advantage, divisor in rows]
    return -sum(steps) / len(steps)


@pytest.mark.parametrize("higher", [None, 0.28])
@pytest.mark.parametrize("kind", ["response", "constant", "rollout"])
def test_grpo_divides_the_sum_over_tokens_as_it_is_told(kind: str, higher: float | None) -> None:
    ends = torch.ones(1, 6, dtype=torch.bool)
    rollout = replace(rollout_tensors(1, 6), terminated=ends, truncated=~ends)
    options = {"group_size": K, "length_normalization": kind, "length_constant": 7, "clip_higher": higher}
    algorithm = make("grpo", options)
    advantages = algorithm.targets(rollout, alone).advantages
    plain = torch.tensor(by_hand(rollout, 0.95, scaled)[0]).double()
    made = token_batch(6, advantages=torch.stack(list(advantages)).double())
    mean = float(rollout.response_lengths.double().mean())
    lengths = made.mask.sum(-1).tolist()
    divisors = {"response": lengths, "constant": [7] * 6, "rollout": [mean] * 6}[kind]
    expected = grpo_by_hand(made, plain.tolist(), divisors, higher or 0.2)
    assert float(algorithm.policy_loss(made).loss) == pytest.approx(expected, rel=1e-5)


def test_the_mean_length_is_that_of_all_ranks() -> None:
    ends = torch.ones(1, 6, dtype=torch.bool)
    rollout = replace(rollout_tensors(1, 6), terminated=ends, truncated=~ends)
    algorithm = make("grpo", {"group_size": K, "length_normalization": "rollout"})
    other = torch.tensor([100.0, 4.0]).double()  # tokens and responses of another rank
    found = torch.stack(list(algorithm.targets(rollout, lambda own: own + other).advantages))
    one = torch.stack(list(make("grpo", {"group_size": K}).targets(rollout, alone).advantages))
    tokens = float(rollout.response_lengths.sum())
    assert torch.allclose(found, one / ((tokens + 100) / 10))
