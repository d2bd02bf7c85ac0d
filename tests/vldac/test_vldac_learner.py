from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_cases import (
    CLIPPED,
    UPDATES,
    assert_same,
    make_learner,
    make_rollout,
    run_case,
    sampler,
    start_vlm,
    weights_of,
)
from torch import Tensor

from vldac.config import Config
from vldac.distributed import Runtime
from vldac.health import HealthError
from vldac.learner import Learner, learning_rate
from vldac.minibatches import minibatches
from vldac.models.vlm import VLM
from vldac.rollout import Rollout
from vldac.utils.seeding import derive_seed
from vldac.value_head import ValueHead


@pytest.fixture(scope="module")
def config(tiny_config: Any) -> Config:
    made: Config = tiny_config({"train": {"value_warmup": 0, "max_grad_norm": CLIPPED}})
    return made


@pytest.fixture(scope="module")
def rollout(config: Config, tiny_base: Path) -> Rollout:
    """16 steps with answers of several lengths, terminations and time limits."""
    made = make_rollout(config, sampler(tiny_base, config))
    steps = [step for row in made.steps for step in row]
    assert len({len(step.response.token_ids) for step in steps}) > 1
    assert any(step.terminated for step in steps)
    assert any(step.truncated for step in steps)
    return made


def moved(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


class Plain:
    """The same learning written out in PyTorch, one environment step at a time and without DeepSpeed."""

    def __init__(self, config: Config, base: Path) -> None:
        self.config = config
        self.reference = start_vlm(base, config)
        self.vlm = sampler(base, config)
        self.head = ValueHead(self.vlm.hidden_size, config.train.value_hidden_sizes)
        trained = [p for p in self.vlm.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained)
        self.critic = torch.optim.Adam(self.head.parameters(), lr=config.train.value_learning_rate)
        self.norms: list[float] = []

    def update(self, rollout: Rollout, number: int) -> None:
        train, temperature = self.config.train, self.config.rollout.temperature
        steps = [step for row in rollout.steps for step in row]
        columns = len(rollout.last_prompts)
        with torch.no_grad():
            states = torch.cat([self.vlm.states([s.prompt]) for s in steps])
            if not self.head.fitted:
                self.head.fit_standardization(states.mean(0), states.var(0, unbiased=False))
            values = self.head(states).tolist()
            old = [self.vlm([s.prompt], [s.response.token_ids], temperature).log_probs[0] for s in steps]
            reference = [self.reference([s.prompt], [s.response.token_ids], temperature).log_probs[0] for s in steps]

            def value(prompt: Any) -> float:
                return float(self.head(self.vlm.states([prompt])))

            advantages = [0.0] * len(steps)
            for n in range(columns):
                running = 0.0
                for t in reversed(range(len(rollout.steps))):
                    i, step = t * columns + n, rollout.steps[t][n]
                    if step.terminated:
                        after, running = 0.0, 0.0
                    elif step.final_prompt is not None:
                        after, running = value(step.final_prompt), 0.0
                    else:
                        last = t + 1 == len(rollout.steps)
                        after = value(rollout.last_prompts[n]) if last else values[i + columns]
                    delta = step.reward + train.gamma * after - values[i]
                    advantages[i] = running = delta + train.gamma * train.gae_lambda * running
        returns = [a + v for a, v in zip(advantages, values, strict=True)]
        mean = sum(advantages) / len(steps)
        deviation = math.sqrt(sum((a - mean) ** 2 for a in advantages) / len(steps))
        advantages = [(a - mean) / (deviation + 1e-8) for a in advantages]

        progress = number / (self.config.updates - 1)
        rate = train.final_learning_rate + 0.5 * (train.learning_rate - train.final_learning_rate) * (
            1 + math.cos(math.pi * progress)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for epoch in range(train.epochs):
            seed = derive_seed(self.config.seed, "minibatches", number, epoch)
            for batch in minibatches(columns, len(rollout.steps), train.batch_size, seed=seed):
                for i in batch:
                    step = steps[i]
                    scores = self.vlm([step.prompt], [step.response.token_ids], temperature)
                    new = scores.log_probs[0]
                    ratio = (new - old[i]).exp()
                    clipped = ratio.clamp(1 - train.clip, 1 + train.clip)
                    gain = torch.minimum(ratio * advantages[i], clipped * advantages[i]).mean()
                    difference = reference[i] - new
                    penalty = (difference.exp() - difference - 1).mean()
                    error = 0.5 * (self.head(scores.states[:, 0])[0] - returns[i]) ** 2
                    loss = -gain + train.kl_coefficient * penalty + train.value_coefficient * error
                    (loss / len(batch)).backward()
                trained = [p for group in self.optimizer.param_groups for p in group["params"]]
                self.norms.append(float(torch.nn.utils.clip_grad_norm_(trained, train.max_grad_norm)))
                torch.nn.utils.clip_grad_norm_(self.head.parameters(), train.max_grad_norm)
                for optimizer in (self.optimizer, self.critic):
                    optimizer.step()
                    optimizer.zero_grad()

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.vlm.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("lora_rank", [4, 0], ids=["adapter", "every weight"])
def test_an_update_equals_the_same_update_written_out_in_plain_pytorch(
    lora_rank: int, config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime
) -> None:
    config = config.model_copy(update={"model": config.model.model_copy(update={"lora_rank": lora_rank})})
    learner, plain = make_learner(config, tiny_base, runtime), Plain(config, tiny_base)
    start = weights_of(learner)
    assert_same(start, plain.weights(), 0.0)
    for number in range(UPDATES):
        metrics = learner.update(rollout, number)
        plain.norms.clear()
        plain.update(rollout, number)
        assert metrics["policy/grad_norm"] == pytest.approx(sum(plain.norms) / len(plain.norms), rel=1e-3)
        assert min(plain.norms) > CLIPPED
    assert moved(start, plain.weights()) > 1e-3  # so that the tolerance means something
    assert_same(weights_of(learner), plain.weights(), 1e-5)
    assert_same(learner.critic.head.state_dict(), plain.head.state_dict(), 1e-5)


def ended(config: Config, rollout: Rollout, base: Path, runtime: Runtime, **train: Any) -> Learner:
    """A learner after one update; nothing hides a scale."""
    changed = config.train.model_copy(update={"max_grad_norm": 10.0, **train})
    learner = make_learner(config.model_copy(update={"train": changed}), base, runtime)
    learner.update(rollout, 0)
    return learner


def assert_same_end(one: Learner, other: Learner) -> None:
    assert one.critic is not None
    assert other.critic is not None
    assert_same(weights_of(one), weights_of(other), 1e-5)
    assert_same(one.critic.head.state_dict(), other.critic.head.state_dict(), 1e-5)


@pytest.mark.parametrize(
    "train",
    [
        {"micro_batch_size": 2},
        {"micro_batch_size": 3},  # parts of different sizes
        {"token_budget": 150},
        {"token_budget": 1},
        {"gradient_checkpointing": True},
    ],
    ids=lambda train: " ".join(f"{k} {v}" for k, v in train.items()),
)
def test_an_update_is_the_same_in_any_passes(
    train: dict[str, Any], config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime
) -> None:
    whole = ended(config, rollout, tiny_base, runtime)
    assert_same_end(ended(config, rollout, tiny_base, runtime, **train), whole)


def test_a_pass_that_does_not_fit_into_memory_is_halved_and_the_update_finished(
    config: Config,
    rollout: Rollout,
    tiny_base: Path,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = ended(config, rollout, tiny_base, runtime)
    sizes: list[int] = []
    scored: list[int] = []
    forward = VLM.forward

    def limited(vlm: VLM, prompts: Any, *arguments: Any, entropies: bool = False) -> Any:
        (sizes if entropies else scored).append(len(prompts))  # with entropies, a pass with gradient
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("no room")
        return forward(vlm, prompts, *arguments, entropies=entropies)

    monkeypatch.setattr(VLM, "forward", limited)
    learner = ended(config, rollout, tiny_base, runtime)
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[6:]) <= 4  # the limit is remembered
    assert scored[:3] == [8, 4, 2]
    assert set(scored[3:]) == {2}
    assert "did not fit into memory" in caplog.text
    assert_same_end(learner, whole)


def test_a_single_step_that_does_not_fit_ends_the_run(
    config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(config, tiny_base, runtime)
    monkeypatch.setattr(learner, "engine", _Full(learner.engine))
    with pytest.raises(torch.OutOfMemoryError):
        learner.update(rollout, 0)


class _Full:
    """An engine without memory."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def __call__(self, *_arguments: Any, **_options: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def test_gradient_checkpointing_runs_the_layers_again_and_leaves_the_model_in_evaluation_mode(
    config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime
) -> None:
    counts = []
    for again in (False, True):
        train = config.train.model_copy(update={"gradient_checkpointing": again})
        learner = make_learner(config.model_copy(update={"train": train}), tiny_base, runtime)
        (layer,) = learner.vlm.backbone.model.language_model.layers
        seen: list[bool] = []
        layer.mlp.register_forward_pre_hook(lambda *_, seen=seen: seen.append(torch.is_grad_enabled()))
        learner.update(rollout, 0)
        counts.append(sum(seen))
        assert not any(module.training for module in learner.vlm.modules())
    assert counts[1] == 2 * counts[0]


def test_value_warm_up_trains_the_value_head_and_nothing_else(
    config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime
) -> None:
    train = config.train.model_copy(update={"value_warmup": 2})
    learner = make_learner(config.model_copy(update={"train": train}), tiny_base, runtime)
    everything = {name: p.detach().clone() for name, p in learner.vlm.named_parameters()}
    head = {name: tensor.clone() for name, tensor in learner.critic.head.state_dict().items()}
    for number, frozen in enumerate((1.0, 1.0, 0.0)):
        if frozen:
            assert learner.update(rollout, number)["train/policy_frozen"] == 1.0
            assert all(torch.equal(p, everything[name]) for name, p in learner.vlm.named_parameters())
            assert not torch.equal(learner.critic.head.state_dict()["layers.0.weight"], head["layers.0.weight"])
        else:
            assert learner.update(rollout, number)["train/policy_frozen"] == 0.0
    now = dict(learner.vlm.named_parameters())
    changed = {name for name, p in now.items() if not torch.equal(p, everything[name])}
    assert changed == {name for name, p in now.items() if p.requires_grad}  # and never a frozen weight


@pytest.mark.parametrize("algorithm", ["vldac", "ppo_token"])
@pytest.mark.parametrize("old_scores", ["sampled", "computed"])
def test_the_first_updates_of_the_critic_alone_ask_the_policy_once_about_each_step(
    algorithm: str,
    old_scores: str,
    config: Config,
    rollout: Rollout,
    tiny_base: Path,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = config.train.model_copy(
        update={"value_warmup": 2, "epochs": 3, "algorithm": algorithm, "old_scores": old_scores, "max_grad_norm": 10.0}
    )
    changed = config.model_copy(update={"train": train})
    learner, plain = (make_learner(changed, tiny_base, runtime) for _ in range(2))
    step = plain._optimizer_step
    monkeypatch.setattr(plain, "_optimizer_step", lambda work, batch, again: step(work, batch, again=False))
    forward, states = VLM.forward, VLM.states
    asked: list[int] = []

    def counted(vlm: VLM, prompts: Any, *arguments: Any, **options: Any) -> Any:
        asked.extend(id(prompt) for prompt in prompts)
        return forward(vlm, prompts, *arguments, **options)

    def counted_states(vlm: VLM, prompts: Any) -> Any:
        asked.extend(id(prompt) for prompt in prompts)
        return states(vlm, prompts)

    monkeypatch.setattr(VLM, "forward", counted)
    monkeypatch.setattr(VLM, "states", counted_states)
    steps = [step for row in rollout.steps for step in row]
    finals = [step.final_prompt for step in steps if step.final_prompt is not None]
    shown = [id(prompt) for prompt in (*(step.prompt for step in steps), *finals, *rollout.last_prompts)]
    assert len({len(step.response.token_ids) for step in steps}) > 1
    for number in range(2):
        same_policy = replace(rollout, version=number)
        asked.clear()
        metrics = learner.update(same_policy, number)
        assert sorted(asked) == sorted(shown)
        asked.clear()
        expected = plain.update(same_policy, number)
        assert len(asked) > 3 * len(steps)
        for name, value in expected.items():
            if not name.startswith("time/"):
                assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
        assert metrics["policy/kl_to_reference"] == 0.0
        assert_same(learner.critic.head.state_dict(), plain.critic.head.state_dict(), 1e-5)


def test_learning_raises_the_value_heads_explained_variance(
    config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime
) -> None:
    train = config.train.model_copy(update={"value_warmup": 99, "max_grad_norm": 10.0, "value_learning_rate": 0.01})
    learner = make_learner(config.model_copy(update={"train": train}), tiny_base, runtime)
    history = [learner.update(rollout, 0) for _ in range(12)]
    assert history[0]["critic/explained_variance"] < 0.1
    assert history[-1]["critic/explained_variance"] > 0.2


def test_the_first_ratio_of_every_update_is_one_and_the_sampler_agrees_with_the_learner(
    config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime
) -> None:
    learner = make_learner(config, tiny_base, runtime)
    first = learner.update(rollout, 0)
    second = learner.update(rollout, 1)
    assert first["health/first_ratio_error"] < 1e-5
    assert second["health/first_ratio_error"] < 1e-5
    assert first["health/sampler_log_prob_gap"] < 1e-5
    assert second["health/sampler_log_prob_gap"] > 1e-5  # these samples are of the weights before


def tamper_temperature(learner: Learner) -> None:
    learner.scorer.temperature = 1.5


def tamper_tokens(learner: Learner) -> None:
    original = learner.scorer._log_probs

    def other(policy: VLM, part: Any, **options: Any) -> Any:
        rows, scores = original(policy, part, **options)
        return [row + 0.01 for row in rows], scores

    learner.scorer._log_probs = other  # type: ignore[method-assign]  # the tampering


@pytest.mark.parametrize("tamper", [tamper_temperature, tamper_tokens])
def test_old_log_probs_that_contradict_the_weights_stop_the_run(
    tamper: Any, config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime
) -> None:
    learner = make_learner(config, tiny_base, runtime)
    tamper(learner)
    with pytest.raises(HealthError, match="old and new log-probabilities of the first batch do not come"):
        learner.update(rollout, 0)


def test_a_loss_that_is_not_finite_stops_the_run(
    config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime
) -> None:
    learner = make_learner(config, tiny_base, runtime)
    with torch.no_grad():
        learner.critic.head.layers[-1].bias.fill_(math.inf)  # a Linear
    with pytest.raises(HealthError, match="loss is nan"):
        learner.update(rollout, 0)


def test_the_rollouts_own_token_ids_are_what_is_learned_from(
    config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(config, tiny_base, runtime)

    def never(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("text was made into tokens again")

    for name in ("encode", "encode_response", "decode"):
        monkeypatch.setattr(learner.vlm, name, never, raising=False)
    for name in ("__call__", "decode", "encode"):
        monkeypatch.setattr(type(learner.vlm.tokenizer), name, never)
    seen: list[Tensor] = []
    original = VLM.forward

    def forward(self: VLM, prompts: Any, responses: Any, temperature: float, **options: Any) -> Any:
        seen.extend(responses)
        return original(self, prompts, responses, temperature, **options)

    monkeypatch.setattr(VLM, "forward", forward)
    learner.update(rollout, 0)
    generated = {id(step.response.token_ids) for row in rollout.steps for step in row}
    assert {id(ids) for ids in seen} == generated


def test_two_updates_of_the_same_learner_from_the_same_seeds_are_bit_identical(
    config: Config, tiny_base: Path, runtime: Runtime
) -> None:
    first, second = (run_case(config, tiny_base, runtime) for _ in range(2))
    assert_same(first.weights, second.weights, 0.0)
    assert_same(first.value_head, second.value_head, 0.0)


@pytest.mark.parametrize("lora_rank", [4, 0], ids=["adapter", "every weight"])
def test_a_loaded_learner_goes_on_bit_for_bit(
    lora_rank: int, config: Config, rollout: Rollout, tiny_base: Path, runtime: Runtime, tmp_path: Path
) -> None:
    config = config.model_copy(update={"model": config.model.model_copy(update={"lora_rank": lora_rank})})
    learner = make_learner(config, tiny_base, runtime)
    learner.update(rollout, 0)
    learner.save(tmp_path)
    learner.update(rollout, 1)
    other = make_learner(config, tiny_base, runtime)
    other.load(tmp_path)
    other.update(rollout, 1)
    assert_same(weights_of(other), weights_of(learner), 0.0)
    assert_same(other.critic.head.state_dict(), learner.critic.head.state_dict(), 0.0)


def test_the_learning_rate_falls_as_a_cosine_between_its_ends(tiny_config: Any) -> None:
    config = tiny_config({"train": {"total_steps": 16 * 5}})
    first, last = config.train.learning_rate, config.train.final_learning_rate
    rates = [learning_rate(config, update) for update in range(6)]
    assert rates[0] == first
    assert rates[2] == pytest.approx((first + last) / 2)
    assert rates[4] == rates[5] == pytest.approx(last)
    assert rates[1] == pytest.approx(last + 0.5 * (first - last) * (1 + math.cos(math.pi / 4)))
