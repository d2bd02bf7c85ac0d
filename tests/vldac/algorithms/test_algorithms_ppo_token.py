from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from algorithm_cases import alone, make, rollout_tensors, surrogate, token_batch, token_ratios

from vldac.advantages import gae
from vldac.algorithms.base import RolloutTensors

GAMMA, LAMBDA = 0.9, 0.8


def by_hand(rollout: RolloutTensors, token_gamma: float, token_lambda: float) -> list[list[float]]:
    """Every episode as one row of tokens, A_i = sum over k of the discounted deltas behind it, in O(length^2)."""
    steps, columns = rollout.rewards.shape
    result: list[list[float]] = [[] for _ in range(steps * columns)]
    for n in range(columns):
        tokens: list[tuple[int, float, float]] = []  # step, delta, discount times lambda to the next token
        for t in range(steps):
            values = rollout.values[t * columns + n].tolist()
            for i, value in enumerate(values):
                if i + 1 < len(values):
                    tokens.append((t, token_gamma * values[i + 1] - value, token_gamma * token_lambda))
                    continue
                end = bool(rollout.terminated[t, n] or rollout.truncated[t, n])
                future = 0.0 if rollout.terminated[t, n] else GAMMA * float(rollout.next_values[t, n])
                tokens.append((t, float(rollout.rewards[t, n]) + future - value, 0.0 if end else GAMMA * LAMBDA))
        for at, (t, _, _) in enumerate(tokens):
            weight, total = 1.0, 0.0
            for _, delta, carried in tokens[at:]:
                total += weight * delta
                weight *= carried
            result[t * columns + n].append(total)
    return result


@pytest.mark.parametrize(("token_gamma", "token_lambda"), [(1.0, 0.95), (0.97, 0.6), (1.0, 1.0), (0.9, 0.0)])
def test_advantages_are_gae_over_the_tokens_of_an_episode(token_gamma: float, token_lambda: float) -> None:
    rollout = rollout_tensors(7, 4, tokens=True)
    options = {"token_gamma": token_gamma, "token_lambda": token_lambda, "normalize_advantages": False}
    targets = make("ppo_token", options, gamma=GAMMA, gae_lambda=LAMBDA).targets(rollout, alone)
    expected = by_hand(rollout, token_gamma, token_lambda)
    rows = zip(targets.advantages, targets.returns, rollout.values, expected, strict=True)
    for advantages, returns, values, row in rows:
        assert advantages.tolist() == pytest.approx(row, abs=1e-5)
        assert torch.equal(returns, advantages + values)


def test_with_one_token_a_step_it_is_step_level_gae() -> None:
    rollout = rollout_tensors(7, 4)
    ends = rollout.terminated, rollout.truncated
    steps = gae(rollout.rewards, torch.stack(list(rollout.values)).view(7, 4), rollout.next_values, *ends, 0.9, 0.8)
    tokens = replace(rollout, values=[value.view(1) for value in rollout.values])
    options = {"normalize_advantages": False}
    found = make("ppo_token", options, gamma=0.9, gae_lambda=0.8).targets(tokens, alone).advantages
    assert torch.allclose(torch.cat(list(found)).view(7, 4), steps, atol=1e-6)


def test_advantages_are_normalized_over_tokens() -> None:
    rollout = rollout_tensors(7, 4, tokens=True)
    found = torch.cat(list(make("ppo_token").targets(rollout, alone).advantages))
    raw = torch.cat(list(make("ppo_token", {"normalize_advantages": False}).targets(rollout, alone).advantages))
    assert torch.allclose(found, (raw - raw.mean()) / raw.std(unbiased=False), atol=1e-5)


def test_each_token_is_clipped_with_its_own_advantage() -> None:
    made = token_batch()
    advantages = torch.randn(made.mask.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    made = replace(made, advantages=advantages)
    steps = []
    for ratios, row in zip(token_ratios(made), advantages.tolist(), strict=True):
        steps.append(sum(surrogate(r, a) for r, a in zip(ratios, row, strict=False)) / len(ratios))
    assert float(make("ppo_token").policy_loss(made).loss) == pytest.approx(-sum(steps) / len(steps), rel=1e-9)


def test_the_critic_reads_the_states_that_the_tokens_were_drawn_from() -> None:
    states = torch.arange(24.0).view(2, 4, 3)  # a prompt's last token and three tokens of a response
    assert torch.equal(make("ppo_token").critic_states(states), states[:, :3])


def test_the_value_loss_is_a_mean_over_steps_of_a_mean_over_tokens() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    values, returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 99.0, 99.0]]), torch.tensor([[0.0, 2.0, 1.0], [1.0, 0, 0]])
    expected = ((1 + 0 + 4) / 3 + 9) / 2 / 2
    assert float(make("ppo_token").value_loss(values, returns, mask)) == pytest.approx(expected)
