from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vldac.advantages import (
    episode_numbers,
    episode_returns,
    explained_variance,
    gae,
    group_relative,
    leave_one_out,
    token_gae,
)


def rollout(steps: int = 24, simulators: int = 5) -> dict[str, Tensor]:
    """Random steps with episodes that terminate, that are truncated, and that the rollout's end cuts."""
    generator = torch.Generator().manual_seed(3)
    draw = torch.rand(steps, simulators, generator=generator)
    terminated = draw < 0.15
    return {
        "rewards": torch.randn(steps, simulators, generator=generator),
        "values": torch.randn(steps, simulators, generator=generator),
        "next_values": torch.randn(steps, simulators, generator=generator),
        "terminated": terminated,
        "truncated": (draw > 0.85) & ~terminated,
    }


def direct_sum(r: dict[str, Tensor], gamma: float, lam: float) -> Tensor:
    """A_t = sum over k of (gamma lambda)^k delta_{t+k}, up to the episode's end, in O(T^2)."""
    steps, simulators = r["rewards"].shape
    result = torch.zeros(steps, simulators, dtype=torch.float64)
    for n in range(simulators):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                future = 0.0 if r["terminated"][k, n] else gamma * float(r["next_values"][k, n])
                result[t, n] += weight * (float(r["rewards"][k, n]) + future - float(r["values"][k, n]))
                if r["terminated"][k, n] or r["truncated"][k, n]:
                    break
                weight *= gamma * lam
    return result


@pytest.mark.parametrize(("gamma", "lam"), [(0.95, 0.9), (1.0, 1.0), (0.9, 0.0), (0.0, 0.9)])
def test_gae_equals_the_direct_sum_over_each_episode(gamma: float, lam: float) -> None:
    r = rollout()
    assert r["terminated"].any()
    assert r["truncated"].any()
    assert torch.allclose(gae(**r, gamma=gamma, gae_lambda=lam).double(), direct_sum(r, gamma, lam), atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_step_that_is_lost_teaches_nothing_and_the_steps_before_it_what_they_led_to(tokens: int) -> None:
    r = rollout(6, 1)
    r["terminated"][:], r["truncated"][:] = False, False
    r["truncated"][3] = True
    lost = torch.zeros_like(r["truncated"])
    lost[3] = True
    found = gae(**r, gamma=0.9, gae_lambda=0.8, lost=lost)
    assert found[3] == 0
    cut = {name: values[:3] for name, values in r.items()}  # as if the rollout had ended before it
    assert torch.equal(found[:3], gae(**cut, gamma=0.9, gae_lambda=0.8))
    assert torch.equal(found[4:], gae(**r, gamma=0.9, gae_lambda=0.8)[4:])
    options: Any = {"gamma": 0.9, "gae_lambda": 0.8, "token_gamma": 1.0, "token_lambda": 0.7}
    values = [torch.linspace(0, 1, tokens) + t for t in range(6)]
    steps: Any = {**r, "values": values}
    of_tokens = token_gae(**steps, **options, lost=lost)
    assert not of_tokens[3].any()
    before = token_gae(**{name: each[:3] for name, each in steps.items()}, **options)
    assert all(torch.equal(*pair) for pair in zip(of_tokens, before, strict=False))


def test_gae_by_hand_with_a_termination_a_truncation_and_an_open_end() -> None:
    # gamma = lambda = 1/2. Steps 0-1: an episode that terminates. Steps 2-3: one cut by its time limit, whose final
    # observation is worth 8. Step 4: the first of an episode that the rollout's end leaves open.
    def column(*numbers: float) -> Tensor:
        return torch.tensor(numbers).view(-1, 1)

    advantages = gae(
        rewards=column(1, 2, 0, -1, 1),
        values=column(4, 2, 4, 2, 6),
        next_values=column(2, 100, 2, 8, 2),  # 100: nothing may be read behind a termination
        terminated=column(0, 1, 0, 0, 0).bool(),
        truncated=column(0, 0, 0, 1, 0).bool(),
        gamma=0.5,
        gae_lambda=0.5,
    )
    # deltas: 1+1-4 = -2 | 2-2 = 0 | 0+1-4 = -3 | -1+4-2 = 1 | 1+1-6 = -4
    assert advantages.flatten().tolist() == [-2 + 0.25 * 0, 0, -3 + 0.25 * 1, 1, -4]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_nothing_of_the_next_episode_flows_back_over_an_end(end: str) -> None:
    r = {k: v.clone() for k, v in rollout(steps=6, simulators=1).items()}
    r["terminated"][:], r["truncated"][:] = False, False
    r[end][2] = True
    before = gae(**r, gamma=0.99, gae_lambda=0.95)
    r["rewards"][3:] += 1000
    r["values"][3:] -= 1000
    after = gae(**r, gamma=0.99, gae_lambda=0.95)
    assert torch.equal(before[:3], after[:3])
    assert not torch.equal(before[3:], after[3:])


def test_a_step_that_terminates_on_its_last_allowed_step_has_no_future() -> None:
    one = torch.ones(1, 1)
    advantages = gae(one, one, 50 * one, one.bool(), one.bool(), 0.9, 0.9)
    assert float(advantages) == 0


def test_explained_variance_is_one_zero_or_negative_where_it_should_be() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns, returns) == pytest.approx(1)
    assert explained_variance(returns + 7, returns) == pytest.approx(1)  # a constant offset varies nothing
    assert explained_variance(torch.zeros(4), returns) == pytest.approx(0)
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(returns, torch.full((4,), 2.0)) == 0


def test_the_returns_of_episodes_by_hand() -> None:
    # Simulator 0: an episode of two steps, one of one step, an open one. Simulator 1: one open episode.
    episodes = torch.tensor([[4, 8], [4, 8], [5, 8], [6, 8]])
    ended = torch.tensor([[0, 0], [1, 0], [1, 0], [0, 0]]).bool()
    rewards = torch.tensor([[1.0, 1], [2, 1], [3, 1], [4, 1]])
    returns = episode_returns(rewards, ended, episode_numbers(episodes), gamma=0.5)
    expected = torch.tensor([[1 + 0.5 * 2, torch.nan], [3.0, torch.nan], [torch.nan, torch.nan]])
    assert torch.equal(returns.nan_to_num(-9), expected.nan_to_num(-9))


def test_what_does_not_count_moves_no_other_and_what_is_alone_has_no_advantage() -> None:
    nan = torch.nan
    returns = torch.tensor([[1.0, 4.0, nan], [nan, 5.0, nan], [nan, nan, nan], [2.0, 2.0, 2.0]])
    assert leave_one_out(returns).tolist() == [[-3, 3, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert group_relative(returns, scale=False).tolist() == [[-1.5, 1.5, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    scaled = group_relative(returns, scale=True)
    assert float(scaled[0, 1]) == pytest.approx(1.5 / (4.5**0.5 + 1e-4))  # the deviation of a sample of two
    assert not scaled[1:].any()
