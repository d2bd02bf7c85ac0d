"""One update of each rival by the learner, and the same update written out in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vldac.learner_cases import make_learner, make_rollout, sampler, weights_of
from vldac import algorithms
from vldac.acting import action_mask
from vldac.config import Config
from vldac.distributed import Runtime
from vldac.minibatches import minibatches
from vldac.models.vlm import VLM, Scores
from vldac.rollout import Rollout, Step
from vldac.utils.seeding import derive_seed
from vldac.value_head import ValueHead

CLIP = 0.05  # so small that some ratios of the later batches are clipped
#: What the steps of a batch are worth together, from their numbers and their scores under the weights being trained.
Objective = Callable[["Plain", list[int], list[Scores]], Tensor]


class Plain:
    """The learner without DeepSpeed and without a KL penalty, one environment step at a time."""

    def __init__(self, config: Config, base: Path, rollout: Rollout) -> None:
        self.config, self.rollout, self.columns = config, rollout, len(rollout.last_prompts)
        self.steps: list[Step] = [step for row in rollout.steps for step in row]
        self.vlm: VLM = sampler(base, config)
        self.head = opinionated(ValueHead(self.vlm.hidden_size, config.train.value_hidden_sizes))
        self.advantages: list[Tensor] = []
        self.returns: list[Tensor] = []
        with torch.no_grad():
            self.old = [self.score(step).log_probs[0] for step in self.steps]

    def score(self, step: Step) -> Scores:
        return self.vlm([step.prompt], [step.response.token_ids], self.config.rollout.temperature)

    def value(self, prompt: Any) -> float:
        with torch.no_grad():
            return float(self.head(self.vlm.states([prompt])))

    def following(self, i: int) -> float:
        """The value of what follows step i."""
        step, last = self.steps[i], i + self.columns >= len(self.steps)
        if step.terminated:
            return 0.0
        if step.final_prompt is not None:
            return self.value(step.final_prompt)
        return self.value(self.rollout.last_prompts[i % self.columns] if last else self.steps[i + self.columns].prompt)

    def episode(self, i: int) -> tuple[int, int]:
        return i % self.columns, self.steps[i].episode

    def update(self, objective: Objective) -> None:
        train = self.config.train
        trained = [p for p in self.vlm.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=train.learning_rate)
        critic = torch.optim.Adam(self.head.parameters(), lr=train.value_learning_rate)
        whole = algorithms.make(train).ratio_level == "episode"
        for epoch in range(train.epochs):
            seed = derive_seed(self.config.seed, "minibatches", 0, epoch)
            for batch in minibatches(self.columns, len(self.rollout.steps), train.batch_size, seed=seed, whole=whole):
                (-objective(self, batch, [self.score(self.steps[i]) for i in batch])).backward()
                torch.nn.utils.clip_grad_norm_(trained, train.max_grad_norm)
                torch.nn.utils.clip_grad_norm_(self.head.parameters(), train.max_grad_norm)
                for each in (optimizer, critic):
                    each.step()
                    each.zero_grad()


def clipped(ratio: Tensor, advantage: Tensor) -> Tensor:
    return torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)


def opinionated(head: ValueHead) -> ValueHead:
    """A critic that does not start at 0, so that its values are seen in the advantages."""
    last = head.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.normal_(last.weight, generator=torch.Generator().manual_seed(8))
    return head


def of_rl4vlm(plain: Plain, batch: list[int], scores: list[Scores]) -> Tensor:
    """One ratio a step; the value loss, whose gradient reaches the backbone."""
    total = torch.zeros(())
    for i, score in zip(batch, scores, strict=True):
        action = action_mask(plain.steps[i].response.token_ids, plain.vlm.decode)
        new, old = ((p[action].sum() + 0.3 * p[~action].sum()) for p in (score.log_probs[0], plain.old[i]))
        error = 0.5 * (plain.head(score.states[0, 0], stop_gradient=False) - plain.returns[i]) ** 2
        gain = clipped((new - old).exp(), plain.advantages[i])
        total = total + gain - plain.config.train.value_coefficient * error
    return total / len(batch)


def of_loop(plain: Plain, batch: list[int], scores: list[Scores]) -> Tensor:
    """The product of all ratios of each episode, once an episode."""
    products: dict[tuple[int, int], Tensor] = {}
    worth: dict[tuple[int, int], Tensor] = {}
    for i, score in zip(batch, scores, strict=True):
        key = plain.episode(i)
        products[key] = products.get(key, torch.ones(())) * (score.log_probs[0] - plain.old[i]).exp().prod()
        worth[key] = plain.advantages[i]
    return torch.stack([clipped(products[key], worth[key]) for key in products]).sum() / len(batch)


def of_ppo_token(plain: Plain, batch: list[int], scores: list[Scores]) -> Tensor:
    """An advantage and a value for each token; the critic is cut off from the backbone."""
    total = torch.zeros(())
    for i, score in zip(batch, scores, strict=True):
        gain = clipped((score.log_probs[0] - plain.old[i]).exp(), plain.advantages[i]).mean()
        error = 0.5 * (plain.head(score.states[0, :-1].detach()) - plain.returns[i]).square().mean()
        total = total + gain - plain.config.train.value_coefficient * error
    return total / len(batch)


def critic_advantages(plain: Plain, *, tokens: bool) -> None:
    """GAE over tokens with a lambda of 0.9 within a response, or over steps, which are then one token each."""
    train = plain.config.train
    with torch.no_grad():
        states = [plain.score(step).states[0, : -1 if tokens else 1] for step in plain.steps]
        everything = torch.cat(states)
        plain.head.fit_standardization(everything.mean(0), everything.var(0, unbiased=False))
        values = [plain.head(row) for row in states]
    plain.advantages = [torch.zeros_like(row) for row in values]
    for i in reversed(range(len(plain.steps))):
        step, row, carried = plain.steps[i], values[i], 0.0
        if not (step.terminated or step.truncated or i + plain.columns >= len(plain.steps)):
            carried = train.gamma * train.gae_lambda * float(plain.advantages[i + plain.columns][0])
        running = step.reward + train.gamma * plain.following(i) - float(row[-1]) + carried
        plain.advantages[i][-1] = running
        for k in reversed(range(len(row) - 1)):
            plain.advantages[i][k] = running = float(row[k + 1] - row[k]) + 0.9 * running
    plain.returns = [a + v for a, v in zip(plain.advantages, values, strict=True)]


def step_advantages(plain: Plain) -> None:
    critic_advantages(plain, tokens=False)
    plain.advantages, plain.returns = ([row[0] for row in rows] for rows in (plain.advantages, plain.returns))


def token_advantages(plain: Plain) -> None:
    critic_advantages(plain, tokens=True)


def group_advantages(plain: Plain) -> None:
    """Leave one out in pairs of simulators, by the numbers of their episodes."""
    returns: dict[tuple[int, int], float] = {}
    ages: dict[tuple[int, int], int] = {}
    ended = set()
    for i, step in enumerate(plain.steps):
        age = ages.get(plain.episode(i), 0)
        returns[plain.episode(i)] = returns.get(plain.episode(i), 0.0) + plain.config.train.gamma**age * step.reward
        ages[plain.episode(i)] = age + 1
        if step.terminated or step.truncated:
            ended.add(plain.episode(i))
    for i in range(len(plain.steps)):
        column, number = plain.episode(i)
        other = (column ^ 1, number)
        both = (column, number) in ended and other in ended
        plain.advantages.append(torch.tensor(returns[column, number] - returns[other] if both else 0.0))
    assert any(plain.advantages)


@pytest.mark.parametrize(
    ("name", "options", "prepare", "objective"),
    [
        ("rl4vlm", {"thoughts_weight": 0.3, "normalize_advantages": False}, step_advantages, of_rl4vlm),
        ("loop", {"group_size": 2, "ratio": "episode"}, group_advantages, of_loop),
        ("ppo_token", {"token_lambda": 0.9, "normalize_advantages": False}, token_advantages, of_ppo_token),
    ],
    ids=["rl4vlm", "loop", "ppo_token"],
)
def test_an_update_equals_the_same_update_written_out_in_plain_pytorch(
    name: str,
    options: dict[str, Any],
    prepare: Callable[[Plain], None],
    objective: Objective,
    tiny_config: Any,
    tiny_base: Path,
    runtime: Runtime,
) -> None:
    train = {"algorithm": name, "algorithm_options": options, "clip": CLIP, "kl_coefficient": 0.0}
    config: Config = tiny_config({"train": {**train, "value_warmup": 0, "max_grad_norm": 0.5}})
    rollout = make_rollout(config, sampler(tiny_base, config))
    plain, learner = Plain(config, tiny_base, rollout), make_learner(config, tiny_base, runtime)
    if learner.critic:
        opinionated(learner.critic.head)
    start = weights_of(learner)
    prepare(plain)
    plain.update(objective)
    metrics = learner.update(rollout, 0)
    assert 0 < metrics["policy/clip_fraction"] < 1
    expected = {name: p.detach() for name, p in plain.vlm.named_parameters() if p.requires_grad}
    found = weights_of(learner)
    assert max(float((found[name] - start[name]).abs().max()) for name in start) > 1e-3
    for weight, tensor in found.items():
        assert torch.allclose(tensor, expected[weight], atol=1e-5), weight
    assert (learner.critic is None) == (name == "loop")
    if learner.critic:
        for weight, tensor in learner.critic.head.state_dict().items():
            assert torch.allclose(tensor, plain.head.state_dict()[weight], rtol=1e-5, atol=1e-5), weight
